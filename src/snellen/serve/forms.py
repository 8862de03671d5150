"""Reading a multipart body as it arrives, never more of it than is allowed. What parts are called opens no file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import ClientDisconnect, Request

from snellen.serve.refusals import RefusedError

_FIELD_BYTES = 4096
_NAME_LETTERS = 255
_CUT_OFF = "The body ends before the form does."


class Sink(Protocol):
    """Takes the bytes of one file as they come."""

    def write(self, block: bytes | memoryview, /) -> object: ...


class Kept(bytearray):
    """A file in memory."""

    def write(self, block: bytes | memoryview, /) -> None:
        """Append."""
        self += block


@dataclass
class SentFile:
    """One file of a form. `filename` is what the client calls it, and no more than that."""

    filename: str
    sink: Any
    n_bytes: int = 0


@dataclass(frozen=True)
class FormRules:
    """What a form may hold: `files` names the fields that are files, `fields` those that are short texts."""

    files: tuple[str, ...]
    fields: tuple[str, ...] = ()
    max_files: int = 64
    max_file_bytes: int = 50_000_000
    max_bytes: int = 100_000_000
    receive_s: float = 60.0


@dataclass
class Form:
    """What was sent."""

    files: list[SentFile] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


async def read_form(
    request: Request, rules: FormRules, open_sink: Callable[[], Sink], take_bytes: Callable[[int], None]
) -> Form:
    """The form of a request. `take_bytes` is told of bytes before they are kept, and may refuse.

    Raises RefusedError: 400 for no form, 408 for a slow body, 413 for too much, 415 for another content type, 422 for
    fields that are not known.
    """
    reader = _Reader(rules, open_sink, _read_boundary(request))
    declared = _read_length(request)
    if declared is not None:
        _require_size(declared, rules)
        take_bytes(declared)
    received = 0
    try:
        async with asyncio.timeout(rules.receive_s):
            async for block in request.stream():
                received += len(block)
                if declared is None:
                    _require_size(received, rules)
                    take_bytes(len(block))
                reader.feed(block)
    except TimeoutError:
        raise RefusedError(
            408, "slow_request", f"The body did not arrive within {rules.receive_s:g} s.", "Send fewer pictures."
        ) from None
    except ClientDisconnect:
        raise RefusedError(400, "broken_off", _CUT_OFF) from None
    return reader.finish()


def _read_length(request: Request) -> int | None:
    text = request.headers.get("content-length", "")
    return int(text) if text.isdecimal() else None


def _require_size(n_bytes: int, rules: FormRules) -> None:
    if n_bytes > rules.max_bytes:
        raise RefusedError(
            413,
            "too_large",
            f"The request is larger than the limit of {rules.max_bytes:,} bytes.",
            "Send fewer pictures at once, or a job: POST /v1/jobs.",
        )


def _read_boundary(request: Request) -> bytes:
    from python_multipart.multipart import parse_options_header

    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise RefusedError(
            415,
            "wrong_content_type",
            "The body must be multipart/form-data.",
            "Example: curl -F images=@eye.jpg http://127.0.0.1:8080/v1/models/NAME/predict",
        )
    return bytes(boundary)


class _Reader:
    """The parser's callbacks. Errors of ours leave it as they are."""

    def __init__(self, rules: FormRules, open_sink: Callable[[], Sink], boundary: bytes) -> None:
        from python_multipart.multipart import MultipartParser

        self._rules, self._open_sink = rules, open_sink
        self._form = Form()
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._name = ""
        self._file: SentFile | None = None
        self._text = bytearray()
        self._is_ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._open,
                "on_part_data": self._take,
                "on_part_end": self._close,
                "on_end": self._end,
            },
        )

    def feed(self, block: bytes) -> None:
        """Raises RefusedError."""
        from python_multipart.exceptions import FormParserError

        try:
            self._parser.write(block)
        except FormParserError:
            raise RefusedError(
                400, "bad_form", "The body is no multipart form.", "Let a library write it, such as curl -F."
            ) from None

    def finish(self) -> Form:
        """The form, once the body has ended. Raises RefusedError where it was cut off."""
        if not self._is_ended:
            raise RefusedError(400, "bad_form", _CUT_OFF, "Send it again.")
        return self._form

    def _begin(self) -> None:
        self._disposition, self._name, self._file = b"", "", None
        self._header = (bytearray(), bytearray())
        self._text = bytearray()

    def _end_header(self) -> None:
        field_name, value = self._header
        if bytes(field_name).lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = (bytearray(), bytearray())

    def _open(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        if self._name in self._rules.files:
            if len(self._form.files) >= self._rules.max_files:
                raise RefusedError(
                    413,
                    "too_many_pictures",
                    f"The request holds more than {self._rules.max_files} files.",
                    "Send fewer at once, or a job: POST /v1/jobs.",
                )
            shown = (filename or b"").decode("utf-8", "replace")[:_NAME_LETTERS]
            self._file = SentFile(shown, self._open_sink())
            self._form.files.append(self._file)
        elif self._name not in self._rules.fields:
            known = " and ".join((*self._rules.files, *self._rules.fields))
            raise RefusedError(422, "unknown_field", "The form holds a field that is not known.", f"Known: {known}.")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._file is None:
            self._text += data[start:end]
            if len(self._text) > _FIELD_BYTES:
                raise RefusedError(413, "too_large", f"A field is longer than {_FIELD_BYTES} bytes.")
            return
        self._file.n_bytes += end - start
        if self._file.n_bytes > self._rules.max_file_bytes:
            raise RefusedError(
                413,
                "picture_too_large",
                f"A file has more than {self._rules.max_file_bytes:,} bytes.",
                "Scale the picture down, or export it as JPEG.",
            )
        self._file.sink.write(memoryview(data)[start:end])

    def _close(self) -> None:
        if self._file is None:
            self._form.fields[self._name] = self._text.decode("utf-8", "replace")

    def _end(self) -> None:
        self._is_ended = True


def iterate_names(form: Form) -> Iterator[str]:
    """A name for each file, also for those that came without."""
    for number, sent in enumerate(form.files, start=1):
        yield sent.filename or f"picture {number}"
