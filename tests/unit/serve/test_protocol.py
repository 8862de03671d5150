"""Connections that dawdle: closed where a request does not come, kept where the next one may."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Iterator

import pytest

from models import deliver_plain_bundle
from servers import Running, run_server
from snellen.serve import protocol
from snellen.serve.limits import LIMITS

HEADER_S = 0.5
ASK = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("protocol")
    deliver_plain_bundle(folder / "bundle")
    with pytest.MonkeyPatch.context() as patch, run_server(folder, [f"eyes={folder / 'bundle'}"]) as running:
        patch.setattr(protocol, "LIMITS", dataclasses.replace(LIMITS, header_s=HEADER_S))
        yield running


def receive(connection: socket.socket, n_answers: int = 1) -> bytes:
    """Answers to `ASK`: head and body may come one after the other."""
    told = b""
    while told.count(b'{"status":"ok"}') < n_answers:
        received = connection.recv(5000)
        assert received, told
        told += received
    return told


def connect(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.base.rpartition(":")[2])), timeout=20)


@pytest.mark.parametrize("sent", [b"", b"G", ASK[:-2]], ids=["nothing", "a letter", "all but the end"])
def test_request_that_does_not_come_whole_is_closed(server: Running, sent: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(sent)
        assert connection.recv(1000) == b""


def test_next_request_that_does_not_come_whole_is_closed_too(server: Running) -> None:
    with connect(server) as connection:
        connection.sendall(ASK)
        assert receive(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(ASK[:10])
        assert connection.recv(1000) == b""


def test_connection_that_waits_for_its_next_request_is_kept(server: Running) -> None:
    with connect(server) as connection:
        for _ in range(2):
            connection.sendall(ASK)
            assert receive(connection).startswith(b"HTTP/1.1 200")
            time.sleep(2 * HEADER_S)
        connection.sendall(ASK)
        assert receive(connection).startswith(b"HTTP/1.1 200")


def test_requests_that_come_at_once_are_all_answered(server: Running) -> None:
    with connect(server) as connection:
        connection.sendall(3 * ASK)
        assert receive(connection, 3).count(b"HTTP/1.1 200") == 3


def test_what_is_no_http_is_told_in_the_one_shape(server: Running) -> None:
    with connect(server) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00 no HTTP\r\n\r\n")
        told = connection.recv(5000)
    assert told.startswith(b"HTTP/1.1 400")
    (event,) = [line for line in server.list_events("request") if line["status"] == 400]
    assert f"x-request-id: {event['request_id']}".encode() in told
    assert b'"code": "bad_request"' in told
