"""A download gets its name only when it is whole, and goes on where it broke off."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from file_server import FileServer, serve
from snellen.core.download import Patience, download, require_http
from snellen.core.errors import FetchError, StorageError, UsageError

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
PATIENCE = Patience(connect_s=5, stall_s=5, attempts=3, pause_s=0)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve({"set.npz": CONTENT}) as running:
        yield running


def fetch(server: FileServer, folder: Path, *, md5: str = MD5, patience: Patience = PATIENCE) -> Path:
    path = folder / "set.npz"
    download(f"{server.url}/set.npz?download=1", path, md5, lambda *_: None, patience)
    return path


def list_visible(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))


def test_whole_file_arrives_under_its_name_only(server: FileServer, tmp_path: Path) -> None:
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert list_visible(tmp_path) == ["set.npz"]


def test_progress_runs_to_the_end(server: FileServer, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    download(f"{server.url}/set.npz", tmp_path / "set.npz", MD5, lambda *now: told.append(now), PATIENCE)
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)


def test_broken_connection_goes_on_where_it_broke(server: FileServer, tmp_path: Path) -> None:
    server.trouble = ["cut"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={len(CONTENT) // 2}-"]


def test_a_later_call_goes_on_where_the_first_gave_up(server: FileServer, tmp_path: Path) -> None:
    server.trouble = ["cut", 503, 503, 503]
    with pytest.raises(FetchError, match="503") as caught:
        fetch(server, tmp_path)
    assert "goes on at 0.5 MB" in caught.value.hint
    assert list_visible(tmp_path) == ["set.npz.part"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={len(CONTENT) // 2}-"


def test_server_without_ranges_starts_anew(server: FileServer, tmp_path: Path) -> None:
    server.has_ranges = False
    server.trouble = ["cut"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_silent_server_is_not_waited_for_for_ever(server: FileServer, tmp_path: Path) -> None:
    server.trouble = ["stall"]
    assert fetch(server, tmp_path, patience=Patience(5, 0.2, 3, 0)).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [500, 503, 429])
def test_passing_trouble_of_the_server_is_tried_again(server: FileServer, tmp_path: Path, status: int) -> None:
    server.trouble = [status, status]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_lasting_trouble_says_what_to_do_by_hand(server: FileServer, tmp_path: Path) -> None:
    server.trouble = [500] * 3
    with pytest.raises(FetchError, match="500") as caught:
        fetch(server, tmp_path)
    assert f"{server.url}/set.npz" in caught.value.hint
    assert str(tmp_path / "set.npz") in caught.value.hint
    assert "--url" in caught.value.hint


def test_server_that_never_finishes_is_given_up(server: FileServer, tmp_path: Path) -> None:
    server.has_ranges = False
    server.trouble = ["cut", 500] * 500
    with pytest.raises(FetchError, match=r"broke off|500"):
        fetch(server, tmp_path)


def test_missing_file_is_told_at_once(server: FileServer, tmp_path: Path) -> None:
    server.files.clear()
    with pytest.raises(FetchError, match="404"):
        fetch(server, tmp_path)
    assert len(server.asked) == 1


def test_wrong_content_length_is_settled_by_the_checksum(server: FileServer, tmp_path: Path) -> None:
    server.extra_length = 1000
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_wrong_checksum_keeps_nothing(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="not the published file"):
        fetch(server, tmp_path, md5="0" * 32)
    assert list_visible(tmp_path) == []


def test_kept_part_of_another_file_is_fetched_anew(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "set.npz.part").write_bytes(b"something else")
    assert fetch(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [b"", b"too much"])
def test_kept_part_that_is_as_long_as_the_file_is_checked(server: FileServer, tmp_path: Path, extra: bytes) -> None:
    (tmp_path / "set.npz.part").write_bytes(CONTENT + extra)
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_file_that_is_there_is_not_fetched_again(server: FileServer, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    assert download(f"{server.url}/set.npz", tmp_path / "set.npz", MD5, lambda *_: None, PATIENCE) is False
    assert len(server.asked) == 1


def test_other_file_of_that_name_stays_as_it_is(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "set.npz").write_bytes(b"mine")
    with pytest.raises(FetchError, match="there already"):
        fetch(server, tmp_path)
    assert (tmp_path / "set.npz").read_bytes() == b"mine"


def test_two_downloads_at_once_ask_the_server_once(server: FileServer, tmp_path: Path) -> None:
    done: list[bool] = []

    def run() -> None:
        done.append(download(f"{server.url}/set.npz", tmp_path / "set.npz", MD5, lambda *_: None, PATIENCE))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False, True]
    assert len(server.asked) == 1


def test_unreachable_server_says_what_to_do(server: FileServer, tmp_path: Path) -> None:
    with serve({}) as other:
        closed = other.url
    with pytest.raises(FetchError, match="refused") as caught:
        download(f"{closed}/set.npz", tmp_path / "set.npz", MD5, lambda *_: None, PATIENCE)
    assert "by hand" in caught.value.hint


def test_full_disk_is_told_before_anything_is_written(server: FileServer, tmp_path: Path) -> None:
    server.extra_length = 10**18
    with pytest.raises(StorageError, match="are free") as caught:
        fetch(server, tmp_path)
    assert "--out" in caught.value.hint
    assert list_visible(tmp_path) == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "mirror.example.org", "http://"])
def test_mirror_must_be_a_web_address(url: str) -> None:
    with pytest.raises(UsageError, match="no http"):
        require_http(url)


@pytest.mark.parametrize(
    "url",
    ["http://[bad", "http://ünï.example:1/é", "http://a b/x", "http://a/x y", "http://a..b/x", "http://a:99999/x"],
)
def test_mirror_that_is_no_possible_address_is_refused_before_any_attempt(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        require_http(url)
    assert url in caught.value.message
    assert caught.value.hint


def test_server_that_leads_to_no_address_is_told(server: FileServer, tmp_path: Path) -> None:
    server.moved_to = "http://[bad"
    with pytest.raises(FetchError, match="leads to no web address"):
        fetch(server, tmp_path)
