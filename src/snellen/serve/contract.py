"""What the OpenAPI document says of routes beyond their signatures: errors, and the form that carries pictures."""

from __future__ import annotations

from typing import Any

from snellen.serve.wire import ErrorBody

_TOLD = {
    400: "The body is no form.",
    401: "The key is missing, unknown or revoked.",
    403: "The key lacks the role, or another site caused the request.",
    404: "There is no such model, job or route.",
    408: "The body did not arrive in time.",
    409: "It cannot be done in this state.",
    413: "A limit on bytes or files is exceeded.",
    415: "The body is no multipart/form-data.",
    422: "A parameter does not fit, or no picture can be read.",
    429: "The server is busy: come again after `Retry-After` seconds.",
    503: "The audit database cannot record just now, or the answer took too long, or the server ends.",
}
READING = (401, 403, 422, 503)
SENDING = (400, 401, 403, 404, 408, 413, 415, 422, 429, 503)


def tell_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of a route."""
    return {status: {"model": ErrorBody, "description": _TOLD[status]} for status in statuses}


def tell_form(**more: dict[str, Any]) -> dict[str, Any]:
    """For `openapi_extra=` of a route that takes pictures as a form; `more` are further fields of it."""
    images = {
        "type": "array",
        "items": {"type": "string", "contentMediaType": "application/octet-stream"},
        "description": "JPEG, PNG, TIFF, BMP, WebP, GIF or DICOM; the field is repeated.",
    }
    schema = {"type": "object", "required": ["images"], "properties": {"images": images, **more}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
