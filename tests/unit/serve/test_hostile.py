"""What a stranger may send: 200 with an error for that picture, or 4xx in the one shape, and the server lives on."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hostile_pictures import (
    HOSTILE_NAMES,
    UNREADABLE,
    draw_animation,
    draw_deep,
    flip,
    make_dicom,
    make_png_header,
    make_zip,
)

from models import deliver_plain_bundle
from pictures import draw_noise, draw_smooth, encode
from servers import Running, run_server, wait_until
from snellen.serve import answering
from snellen.serve.limits import LIMITS

SMALL = dataclasses.replace(
    LIMITS,
    picture_bytes=200_000,
    request_bytes=500_000,
    pictures=4,
    pixels=1_000_000,
    receive_s=1.0,
    bodies_bytes=600_000,
)
JPEG = encode(draw_smooth(1, 60, 80), "JPEG", quality=90)
PNG = encode(draw_smooth(2, 60, 80))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("eyes")
    deliver_plain_bundle(folder / "bundle")
    with run_server(folder, [f"eyes={folder / 'bundle'}"], limits=SMALL) as running:
        yield running


@pytest.fixture(autouse=True)
def _lives_on(server: Running) -> Iterator[None]:
    yield
    assert server.predict("eyes", {"good.png": PNG}).status_code == 200
    wait_until(lambda: server.service.bodies.used == 0 and server.service.pictures.used == 0)
    assert server.list_events("failed") == []


TOO_LARGE = {"more-pixels-than-the-limit.png": make_png_header(1001, 1000)}


@pytest.mark.parametrize("name", [*UNREADABLE, *TOO_LARGE])
def test_what_cannot_be_read_is_refused_in_the_one_shape(server: Running, name: str) -> None:
    answer = server.predict("eyes", {name: (UNREADABLE | TOO_LARGE)[name]})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "unreadable_picture"


@pytest.mark.parametrize(("width", "height"), [(1001, 1000), (12_000, 9_000)])
def test_pixels_are_counted_before_anything_is_decoded(server: Running, width: int, height: int) -> None:
    told = server.predict("eyes", {"large.png": make_png_header(width, height)}).text
    assert f"{width}×{height} pixels are more than the limit of 1,000,000" in told


@pytest.mark.parametrize(
    ("name", "content", "statuses"),
    [
        ("cmyk.jpg", encode(draw_smooth(3, 40, 40), "JPEG", mode="CMYK"), (200,)),
        ("animated.gif", draw_animation(), (200,)),
        ("polyglot.jpg", JPEG + make_zip({"a.png": PNG}), (200,)),
        ("sixteen.png", draw_deep(), (200, 422)),  # the model has no window
        ("palette.png", encode(draw_smooth(3, 40, 40), "PNG", mode="P"), (200,)),
        ("one-pixel.png", encode(draw_noise(0, 1, 1)), (200,)),
        ("long.png", encode(draw_noise(0, 2, 4000)), (200,)),
    ],
)
def test_odd_pictures_are_answered_or_refused(
    server: Running, name: str, content: bytes, statuses: tuple[int, ...]
) -> None:
    assert server.predict("eyes", {name: content}).status_code in statuses


@pytest.mark.parametrize("seed", range(30))
def test_flipped_bits_are_answered_or_refused(server: Running, seed: int) -> None:
    content = flip(JPEG if seed % 2 else PNG, np.random.default_rng(seed))
    answer = server.predict("eyes", {"flipped": content})
    assert answer.status_code in (200, 422)
    assert "error" in answer.json() or answer.json()["predictions"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_open_no_file_and_come_back_as_text(server: Running, name: str) -> None:
    row = server.predict("eyes", {name: PNG}).json()["predictions"][0]
    assert row["error"] is None
    assert len(row["filename"]) <= 255
    assert not list(server.service.store.folder.rglob("*passwd*"))


def test_too_many_pictures_are_413(server: Running) -> None:
    answer = server.predict("eyes", [(f"{number}.png", PNG) for number in range(5)])
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_many_pictures")


def test_frames_that_a_header_claims_are_not_listed(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, listed = answering.list_frames, []

    def count(filename: str, content: bytes) -> Iterator[answering.Picture]:
        for picture in plain(filename, content):
            listed.append(picture)
            yield picture

    monkeypatch.setattr(answering, "list_frames", count)
    answer = server.predict("eyes", {"claims.dcm": make_dicom(20_000, 190_000), "b.dcm": make_dicom(20_000, 190_000)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_many_pictures")
    assert len(listed) == SMALL.pictures + 1


def test_a_picture_beyond_the_limit_is_413(server: Running) -> None:
    answer = server.predict("eyes", {"large.png": PNG + bytes(210_000)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "picture_too_large")


def test_a_request_beyond_the_limit_is_413_told_and_untold(server: Running) -> None:
    body = b"x" * 600_000
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    told = server.client.post("/v1/models/eyes/predict", content=body, headers=headers)
    untold = server.client.post(
        "/v1/models/eyes/predict",
        content=iter(
            [b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n', *[b"x" * 1000] * 600]
        ),
        headers=headers,
    )
    assert told.status_code == untold.status_code == 413
    assert {answer.json()["error"]["code"] for answer in (told, untold)} <= {"too_large", "picture_too_large"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        b"--x\r\n",
        b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\nabc',
        b"--x\r\n" + b"A: b\r\n" * 3000 + b"\r\nabc\r\n--x--\r\n",
        b'--x\r\nContent-Disposition: form-data; name="' + b"n" * 20_000 + b'"\r\n\r\nabc\r\n--x--\r\n',
        b"--x\r\n\r\nno header\r\n--x--\r\n",
    ],
)
def test_broken_forms_are_refused(server: Running, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = server.client.post("/v1/models/eyes/predict", content=body, headers=headers)
    assert answer.status_code in (400, 413, 422)
    assert answer.json()["error"]["code"]


def open_connection(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.base.rpartition(":")[2])), timeout=20)


def test_slow_body_is_given_up(server: Running) -> None:
    with open_connection(server) as connection:
        connection.sendall(
            b"POST /v1/models/eyes/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        )
        assert b" 408 " in connection.recv(4096).splitlines()[0]


def test_what_is_no_http_gets_the_one_shape(server: Running) -> None:
    with open_connection(server) as connection:
        connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'{"error": {"code": "bad_request"' in answer


def test_more_bodies_than_memory_allows_are_429_with_a_time(server: Running) -> None:
    head = (
        b"POST /v1/models/eyes/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 400000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    )
    with open_connection(server) as first:
        first.sendall(head)
        wait_until(lambda: server.service.bodies.used == 400_000)
        answer = server.predict("eyes", {"a.png": PNG + bytes(190_000), "b.png": PNG + bytes(190_000)})
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "busy")
        assert int(answer.headers["retry-after"]) >= 1


def test_full_queue_is_429_and_what_was_taken_is_answered(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = server.service.models.find("eyes").predictor
    go_on, plain = threading.Event(), predictor.describe

    def wait(pixels: np.ndarray) -> object:
        go_on.wait(20)
        return plain(pixels)

    monkeypatch.setattr(predictor, "describe", wait)
    monkeypatch.setattr(server.service.pictures, "_limit", 3)
    statuses: list[int] = []
    taken = threading.Thread(
        target=lambda: statuses.append(server.predict("eyes", {"a": PNG, "b": PNG, "c": PNG}).status_code)
    )
    taken.start()
    wait_until(lambda: server.service.pictures.used == 3)
    refused = server.predict("eyes", {"d.png": PNG})
    go_on.set()
    taken.join(20)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "busy")
    assert refused.headers["retry-after"]
    assert statuses == [200]


def test_answers_that_take_too_long_are_503(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = server.service.models.find("eyes").predictor
    go_on, plain = threading.Event(), predictor.describe
    monkeypatch.setattr(predictor, "describe", lambda pixels: plain(pixels) if go_on.wait(20) else [])
    object.__setattr__(server.service, "limits", dataclasses.replace(SMALL, answer_s=0.2))
    try:
        answer = server.predict("eyes", {"a.png": PNG})
    finally:
        go_on.set()
        object.__setattr__(server.service, "limits", SMALL)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_slow")


def test_a_hundred_open_connections_leave_room_for_others(server: Running) -> None:
    idle = [open_connection(server) for _ in range(100)]
    try:
        assert server.predict("eyes", {"a.png": PNG}).status_code == 200
    finally:
        for connection in idle:
            connection.close()


def test_same_picture_in_a_folder_of_another_name_has_the_same_answer(server: Running, tmp_path: Path) -> None:
    one, other = server.predict("eyes", [("a.jpg", PNG), ("b.dcm", PNG)]).json()["predictions"]
    assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)
