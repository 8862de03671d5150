"""Routes of models: list, card, predict, explain, reload."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from snellen.core.errors import SnellenError
from snellen.serve.access import Caller, needs
from snellen.serve.answering import Asked, answer_request
from snellen.serve.contract import READING, SENDING, tell_errors, tell_form
from snellen.serve.maps import View, explain_request
from snellen.serve.refusals import RefusedError, read_request_id
from snellen.serve.service import get_service, reload_model
from snellen.serve.wire import ModelAnswer, ModelsAnswer, PredictAnswer

router = APIRouter(prefix="/models", tags=["models"])
Predicting = Annotated[Caller, Depends(needs("predict"))]
Looking = Annotated[Caller, Depends(needs("predict", "read"))]
Administering = Annotated[Caller, Depends(needs("admin"))]


@router.get("", response_model=ModelsAnswer, responses=tell_errors(*READING))
async def list_models(request: Request, _: Looking) -> ModelsAnswer:
    """The models that are served."""
    return ModelsAnswer(models=[served.describe() for served in get_service(request).models])


@router.get("/{name}", response_model=ModelAnswer, responses=tell_errors(404, *READING))
async def get_model(name: str, request: Request, _: Looking) -> ModelAnswer:
    """One model."""
    return get_service(request).models.find(name).describe()


@router.get(
    "/{name}/card",
    response_class=Response,
    responses={200: {"content": {"text/markdown": {}}, "description": "The card."}, **tell_errors(404, *READING)},
)
async def get_card(name: str, request: Request, _: Looking) -> Response:
    """The model card: what the model is for, what it was trained on, how well it does."""
    card = get_service(request).models.find(name).card
    if not card:
        raise RefusedError(404, "no_card", "The bundle of this model holds no card.")
    return Response(card, media_type="text/markdown; charset=utf-8")


@router.post(
    "/{name}/predict", response_model=PredictAnswer, responses=tell_errors(*SENDING), openapi_extra=tell_form()
)
async def predict(name: str, request: Request, caller: Predicting) -> Response:
    """Probabilities, decision and abstention for each picture.

    A picture that cannot be read has its `error`, and the rest is answered. Where none can be read the status is 422.
    """
    service = get_service(request)
    answer = await answer_request(service, request, name, caller)
    return Response(answer.model_dump_json(), media_type="application/json")


@router.post(
    "/{name}/explain",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "A PNG."}, **tell_errors(*SENDING)},
    openapi_extra=tell_form(),
)
async def explain(
    name: str,
    request: Request,
    caller: Predicting,
    view: Annotated[
        View, Query(description="map: where the evidence lies, transparent elsewhere; picture: what the model sees.")
    ] = "map",
    class_name: Annotated[
        str | None,
        Query(
            alias="class",
            max_length=200,
            description="Evidence for it; else for the predicted class, as a prediction that is recorded.",
        ),
    ] = None,
    frame: Annotated[int | None, Query(ge=0, le=100_000, description="Of a DICOM that holds several.")] = None,
) -> Response:
    """Where in one picture the evidence for a class lies. The map has the size of what the model sees."""
    service = get_service(request)
    with service.models.hold(name) as served:
        asked = Asked(read_request_id(request), served, caller)
        return await explain_request(service, request, asked, view, class_name, frame)


@router.post("/{name}/reload", response_model=ModelAnswer, responses=tell_errors(404, 409, *READING))
async def reload(name: str, request: Request, _: Administering) -> ModelAnswer:
    """Open the bundle anew, from where it lay at the start. No request is dropped; a bundle with a defect changes
    nothing.
    """
    service = get_service(request)
    try:
        served = await run_in_threadpool(reload_model, service, name)
    except RefusedError:
        raise
    except SnellenError as error:
        raise RefusedError(409, error.code, f"The bundle was not taken: {error.message}", error.hint) from error
    return served.describe()
