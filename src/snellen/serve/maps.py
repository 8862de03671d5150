"""Evidence maps as PNG: what the model sees of a picture, and, to be laid over it, where its evidence lies.

A map of a class that was asked for tells no probability and is not recorded. Which class is the most probable one is
an answer: it is recorded before it is told.
"""

from __future__ import annotations

import asyncio
from typing import Literal
from urllib.parse import quote

import cv2
import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from starlette.responses import Response

from snellen.core.errors import PictureError, UsageError
from snellen.inference.evidence_picture import colour_map, to_rgb
from snellen.inference.predictor import Predictor
from snellen.serve.answering import Asked, Picture, answer_pictures, receive_pictures
from snellen.serve.refusals import RefusedError
from snellen.serve.service import Service

View = Literal["map", "picture"]


async def explain_request(
    service: Service, request: Request, asked: Asked, view: View, class_name: str | None, frame: int | None
) -> Response:
    """The PNG that was asked for. Raises RefusedError, also for another number of pictures than one."""
    predictor = asked.served.predictor
    async with receive_pictures(service, request) as pictures:
        picture = _choose(pictures, frame)
        if view == "map" and class_name is None:
            class_name = await _predict(service, asked, picture)
        try:
            async with asyncio.timeout(service.limits.answer_s):
                work = service.explaining.submit(_draw, predictor, picture, view, class_name)
                drawn, headers = await asyncio.wrap_future(work)
        except TimeoutError:
            raise RefusedError(503, "too_slow", "The map took too long.", "Try again when less is to do.", 10) from None
        except PictureError as error:
            message = f"The picture cannot be read: {error.message}."
            raise RefusedError(422, error.code, message, error.hint) from error
        except UsageError as error:
            raise RefusedError(422, "unknown_class", error.message, error.hint) from error
    return Response(drawn, media_type="image/png", headers=headers)


async def _predict(service: Service, asked: Asked, picture: Picture) -> str:
    (answer,) = await answer_pictures(service, asked, [picture])
    if answer.problem is not None:
        raise RefusedError(
            422, answer.problem.code, f"The picture cannot be read: {answer.problem.message}.", answer.problem.hint
        )
    return str(answer.prediction.prediction)


def _choose(pictures: list[Picture], frame: int | None) -> Picture:
    if frame is not None:
        pictures = [picture for picture in pictures if (picture.frame or 0) == frame]
    if len(pictures) != 1:
        raise RefusedError(
            422,
            "one_picture",
            f"A map is drawn of one picture, not of {len(pictures)}.",
            "Send one file; of a DICOM with several pictures name one: ?frame=0",
        )
    return pictures[0]


def _draw(predictor: Predictor, picture: Picture, view: View, class_name: str | None) -> tuple[bytes, dict[str, str]]:
    pixels = predictor.prepare(picture.content, frame=picture.frame)
    if view == "picture":
        return encode_png(to_rgb(pixels)), {}
    found = predictor.explain_pixels(pixels, class_name)
    layer = np.dstack([colour_map(found.array), np.rint(255 * found.array).astype(np.uint8)])
    return encode_png(layer), {"X-Snellen-Method": found.method, "X-Snellen-Class": quote(found.class_name)}


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """`(H, W, 3)` RGB or `(H, W, 4)` with how much covers what lies below."""
    order = [2, 1, 0, 3][: pixels.shape[2]]
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(pixels[:, :, order]))
    return bytes(encoded)
