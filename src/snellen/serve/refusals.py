"""The one shape of every error: what is refused, with which status, in words a client can act on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from snellen.core.errors import SnellenError
from snellen.serve.wire import ErrorBody, ErrorDetail

_CODES = {
    400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "wrong_content_type",
    422: "invalid_request", 500: "internal",
}  # fmt: skip
_HINTS = {
    404: "The routes are listed at /docs.",
    405: "The methods of each route are listed at /docs.",
    500: "It is a defect of the server: report the request id to whoever runs it.",
}


class RefusedError(SnellenError):
    """A request that is not answered; `status` is HTTP's, `retry_after_s` says when to come again."""

    def __init__(
        self, status: int, code: str, message: str, hint: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, hint, code=code)
        self.status = status
        self.retry_after_s = retry_after_s


def read_request_id(request: Request) -> str:
    """The id that the server gave to this request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def build_refusal(refusal: RefusedError, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a refused request."""
    more = dict(headers or {})
    if refusal.retry_after_s is not None:
        more["Retry-After"] = str(max(1, math.ceil(refusal.retry_after_s)))
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        more["WWW-Authenticate"] = 'Bearer realm="snellen"'
    body = ErrorBody(
        error=ErrorDetail(code=refusal.code, message=refusal.message, hint=refusal.hint, request_id=request_id)
    )
    return Response(body.model_dump_json(), refusal.status, more, media_type="application/json")


def build_plain_refusal(status: int, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer where only the status is known, such as 404 and 405."""
    message = HTTPStatus(status).phrase.capitalize() + "."
    code = _CODES.get(status, HTTPStatus(status).phrase.lower().replace(" ", "_"))
    return build_refusal(RefusedError(status, code, message, _HINTS.get(status, "")), request_id, headers)
