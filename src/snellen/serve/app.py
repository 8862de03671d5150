"""The server as an ASGI application: routes below `/v1`, the page, one shape of errors. Knows no socket, no signal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles

from snellen import __version__
from snellen.core.errors import SnellenError, StoreUnavailableError
from snellen.serve import routes_health, routes_history, routes_jobs, routes_models
from snellen.serve.envelope import Envelope
from snellen.serve.logs import log_event
from snellen.serve.refusals import RefusedError, build_plain_refusal, build_refusal, read_request_id
from snellen.serve.service import Service

_FRESH = {"Cache-Control": "no-cache"}
PAGE = Path(__file__).parent / "page"
_ABOUT = (
    "Classification of medical images by measured bundles. Every answer is recorded in the audit database before it is "
    "given. Research use, not a medical device.\n\n"
    'Every error has one shape: `{"error": {"code", "message", "hint", "request_id"}}`.'
)


def build_app(service: Service) -> FastAPI:
    """The application around a service. Its end drains jobs and closes models and database."""
    app = _build_routes()
    app.state.service = service
    _add_page(app)
    _add_errors(app)
    app.add_middleware(Envelope, measures=service.measures)
    return app


def describe_api() -> dict[str, Any]:
    """The OpenAPI document; it is the same for every service."""
    return _build_routes().openapi()


def _build_routes() -> FastAPI:
    app = FastAPI(
        title="Snellen",
        version=__version__,
        description=_ABOUT,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        lifespan=_live,
        redirect_slashes=False,
    )
    v1 = APIRouter(prefix="/v1")
    for router in (routes_models.router, routes_history.router, routes_jobs.router, routes_health.own_router):
        v1.include_router(router)
    app.include_router(v1)
    app.include_router(routes_health.router)
    return app


@asynccontextmanager
async def _live(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    service.jobs.start()
    yield
    service.jobs.stop()
    service.models.close()
    for pool in (service.pool, service.explaining):
        pool.shutdown(wait=True, cancel_futures=True)
    service.store.close()
    log_event("ended", models=service.models.names)


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def get_page() -> Response:
        return FileResponse(PAGE / "index.html", headers=_FRESH)

    @app.get("/docs", include_in_schema=False)
    async def get_docs() -> Response:
        return FileResponse(PAGE / "docs.html", headers=_FRESH)

    app.mount("/page", StaticFiles(directory=PAGE))


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def tell_status(request: Request, error: HTTPException) -> Response:
        request.scope["state"]["error_code"] = str(error.status_code)
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_list_methods(request))
        return build_plain_refusal(error.status_code, read_request_id(request), headers)

    @app.exception_handler(RequestValidationError)
    async def tell_parameters(request: Request, error: RequestValidationError) -> Response:
        told = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'][1:])}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()[:5]
        )
        return _answer(
            request, RefusedError(422, "invalid_request", f"A parameter does not fit. {told}.", "See /docs.")
        )

    @app.exception_handler(SnellenError)
    async def tell_error(request: Request, error: SnellenError) -> Response:
        if isinstance(error, RefusedError):
            return _answer(request, error)
        if isinstance(error, StoreUnavailableError):
            log_event("store_unavailable", request_id=read_request_id(request), reason=type(error).__name__)
            return _answer(request, RefusedError(503, error.code, error.message, error.hint, 5))
        log_event("failed", error=error, request_id=read_request_id(request))
        return build_plain_refusal(500, read_request_id(request))


def _list_methods(request: Request) -> list[str]:
    """What may be asked of this path: all of its routes together, where the framework names those of one."""
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    found = [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return found or ["GET", "HEAD"]  # the files of the page


def _answer(request: Request, refusal: RefusedError) -> Response:
    request.scope["state"]["error_code"] = refusal.code
    request.app.state.service.measures.note_refusal(refusal.code)
    return build_refusal(refusal, read_request_id(request))
