"""Routes for whoever watches the server: is it alive, is it ready, how much does it do."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from snellen import __version__
from snellen.serve.access import Caller, needs
from snellen.serve.audit_rows import ROLES
from snellen.serve.contract import READING, tell_errors
from snellen.serve.measures import CONTENT_TYPE
from snellen.serve.service import get_service
from snellen.serve.wire import HealthAnswer, MeAnswer

router = APIRouter(tags=["server"])
own_router = APIRouter(tags=["server"])


@router.get("/healthz", response_model=HealthAnswer)
async def get_health() -> HealthAnswer:
    """The process answers."""
    return HealthAnswer(status="ok")


@router.get("/readyz", response_model=HealthAnswer, responses=tell_errors(503))
async def get_readiness(request: Request) -> HealthAnswer:
    """Models are loaded and the audit database takes rows."""
    await run_in_threadpool(get_service(request).store.check)
    return HealthAnswer(status="ok")


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text form."}, **tell_errors(*READING)},
)
async def get_metrics(request: Request, _: Annotated[Caller, Depends(needs("read"))]) -> Response:
    """Counters, for Prometheus. Where keys are needed: `authorization` with a key of the role read."""
    text = await run_in_threadpool(get_service(request).measures.render)
    return Response(text, media_type=CONTENT_TYPE)


@own_router.get("/me", response_model=MeAnswer, responses=tell_errors(*READING))
async def get_me(caller: Annotated[Caller, Depends(needs(*ROLES))]) -> MeAnswer:
    """Which key this is, and what it may do."""
    return MeAnswer(
        needs_key=caller.key is not None,
        key_id=caller.key_id,
        name=None if caller.key is None else caller.key.name,
        roles=[role for role in ROLES if caller.allows(role)],
        version=__version__,
    )
