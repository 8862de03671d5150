"""Files are old or new, never half; the cache is where it was asked, and clearing it touches nothing else."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import pytest

from snellen.core import storage
from snellen.core.errors import StorageError, UsageError
from snellen.core.storage import (
    CACHE_PARTS,
    CACHE_TAG,
    choose_cache_folder,
    choose_data_folder,
    clear_cache,
    compute_digest,
    compute_sha256,
    describe_need,
    explain_os_error,
    format_bytes,
    hold_lock,
    measure_folder,
    open_cache,
    read_json,
    require_room,
    require_space,
    write_atomic,
    write_json,
)

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits and permissions")


@contextmanager
def limit_file_size(n_bytes: int) -> Iterator[None]:
    """Let the system refuse larger files, as a full disk would."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fail_to_write(path: Path) -> None:
    with limit_file_size(1000), pytest.raises(StorageError):
        write_atomic(path, b"x" * 100_000)


@pytest.mark.parametrize("content", [b"\x00\xff", "Größe µm"])
def test_write_atomic_writes_whole_content(tmp_path: Path, content: bytes | str) -> None:
    write_atomic(tmp_path / "new" / "folder" / "file", content)
    written = (tmp_path / "new" / "folder" / "file").read_bytes()
    assert written == (content.encode() if isinstance(content, str) else content)


@needs_posix
def test_write_atomic_that_fails_keeps_old_content(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_atomic(path, "old")
    fail_to_write(path)
    assert path.read_text() == "old"


@needs_posix
def test_write_atomic_that_fails_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_atomic(path, "old")
    fail_to_write(path)
    assert list(tmp_path.iterdir()) == [path]


def test_write_atomic_onto_folder_raises_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=tmp_path.name):
        write_atomic(tmp_path, "x")


def test_write_atomic_onto_folder_leaves_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError):
        write_atomic(tmp_path / "taken", "x")
    assert [item.name for item in tmp_path.iterdir()] == ["taken"]


def test_write_atomic_below_file_raises_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        write_atomic(tmp_path / "file" / "plan.json", "x")


@needs_posix
def test_write_atomic_without_permission_raises_storage_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)  # root may write anywhere: for a moment be nobody
    try:
        with pytest.raises(StorageError, match="Permission"):
            write_atomic(tmp_path / "plan.json", "x")
    finally:
        if is_root:
            os.seteuid(0)
        tmp_path.chmod(0o700)


@needs_posix
def test_write_atomic_gives_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("x")
    write_atomic(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    ("number", "word"), [(errno.ENOSPC, "full"), (errno.EACCES, "may write"), (errno.EROFS, "read-only")]
)
def test_explain_os_error_says_what_to_do(number: int, word: str) -> None:
    assert word in explain_os_error(OSError(number, "reason"), Path("cache")).hint


def test_write_json_reads_back_equal(tmp_path: Path) -> None:
    value = {"klasse": "Netzhautablösung", "n": [1, 2.5, None, True]}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_write_json_refuses_numbers_that_json_lacks(tmp_path: Path, number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"auc": number})


@pytest.mark.parametrize("content", [b"", b'{"n": 1', b"\xff\xfe\x00", b"not json", b"[" * 100_000])
def test_read_json_of_damaged_file_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(StorageError, match=r"plan\.json"):
        read_json(tmp_path / "plan.json")


def test_read_json_of_absent_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"plan\.json does not exist"):
        read_json(tmp_path / "plan.json")


def test_read_json_of_folder_raises_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        read_json(tmp_path)


def test_compute_sha256_equals_hash_of_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000  # more than one block
    (tmp_path / "file").write_bytes(content)
    assert compute_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_compute_digest_tells_lists_apart() -> None:
    lists = [[], [""], ["", ""], ["ab"], ["a", "b"], ["b", "a"], ["a\0b"], ["a", "\0b"], ["ab", ""], ["ä"], ["a", "̈"]]
    assert len({compute_digest(parts) for parts in lists}) == len(lists)


def test_compute_digest_repeats() -> None:
    assert compute_digest(["a", "b"]) == compute_digest(iter(("a", "b")))


def test_choose_cache_folder_takes_the_option_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNELLEN_CACHE", "/from/environment")
    assert choose_cache_folder("/asked") == Path("/asked")


def test_choose_cache_folder_takes_the_environment_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNELLEN_CACHE", "/from/environment")
    assert choose_cache_folder(None) == Path("/from/environment")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG folders are Linux's")
@pytest.mark.parametrize(("xdg", "expected"), [("/xdg", "/xdg/snellen"), ("", "/home/ada/.cache/snellen")])
def test_choose_cache_folder_ends_at_the_platform(monkeypatch: pytest.MonkeyPatch, xdg: str, expected: str) -> None:
    monkeypatch.setenv("SNELLEN_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setenv("HOME", "/home/ada")
    assert choose_cache_folder(None) == Path(expected)


@needs_posix
def test_choose_cache_folder_expands_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert choose_cache_folder("~/cache") == Path("/home/ada/cache")


def test_choose_data_folder_takes_the_environment_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNELLEN_DATA", "/from/environment")
    assert choose_data_folder() == Path("/from/environment")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG folders are Linux's")
@pytest.mark.parametrize(("xdg", "expected"), [("/xdg", "/xdg/snellen"), ("", "/home/ada/.local/share/snellen")])
def test_choose_data_folder_ends_at_the_platform(monkeypatch: pytest.MonkeyPatch, xdg: str, expected: str) -> None:
    monkeypatch.setenv("SNELLEN_DATA", "")
    monkeypatch.setenv("XDG_DATA_HOME", xdg)
    monkeypatch.setenv("HOME", "/home/ada")
    assert choose_data_folder() == Path(expected)


def test_require_space_refuses_absurd_size(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"The pixel cache needs [\d,]+ GB") as caught:
        require_space(tmp_path, 1 << 62, "The pixel cache")
    assert "--cache" in caught.value.hint


def test_require_space_lets_small_sizes_pass_where_the_folder_is_yet_to_come(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "yet", 1, "The pixel cache")


def test_hold_lock_keeps_others_out(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "x.lock"
    with hold_lock(path), pytest.raises(filelock.Timeout):
        filelock.FileLock(path).acquire(timeout=0)


def test_hold_lock_opens_again_after_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with pytest.raises(KeyError), hold_lock(path):
        raise KeyError
    with filelock.FileLock(path).acquire(timeout=0) as lock:
        assert lock.is_locked


def test_hold_lock_below_file_raises_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError), hold_lock(tmp_path / "file" / "x.lock"):
        pass


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of 10 bytes a part that somebody put into a folder of their own."""
    for part in CACHE_PARTS:
        (tmp_path / part / "inner").mkdir(parents=True)
        (tmp_path / part / "inner" / "file").write_bytes(b"0123456789")
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "photos").mkdir()
    (tmp_path / CACHE_TAG).write_text("Signature")
    return tmp_path


def test_measure_folder_counts_bytes_by_part(cache: Path) -> None:
    assert measure_folder(cache) == dict.fromkeys(CACHE_PARTS, 10)


@pytest.mark.parametrize("number", [27, 28, 122])
def test_full_disk_is_told_by_the_option_that_named_it(number: int, tmp_path: Path) -> None:
    cache = open_cache(str(tmp_path / "cache"))
    assert "--cache" in explain_os_error(OSError(number, "reason"), cache / "pixels" / "a").hint
    beside = explain_os_error(OSError(number, "reason"), tmp_path / "run" / "bundle" / "model.onnx").hint
    assert "--out" in beside
    assert "--cache" not in beside


def test_clear_cache_deletes_only_its_parts(cache: Path) -> None:
    clear_cache(cache)
    assert sorted(item.name for item in cache.iterdir()) == [CACHE_TAG, "photos", "thesis.txt"]


def test_clear_cache_refuses_a_folder_that_is_no_cache(cache: Path) -> None:
    (cache / CACHE_TAG).unlink()
    with pytest.raises(UsageError, match="no cache"):
        clear_cache(cache)
    assert measure_folder(cache) == dict.fromkeys(CACHE_PARTS, 10)


def test_open_cache_refuses_a_folder_with_other_things(cache: Path) -> None:
    (cache / CACHE_TAG).unlink()
    with pytest.raises(UsageError, match="holds other things"):
        open_cache(str(cache))


def test_open_cache_takes_the_users_own_place_as_it_is(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / CACHE_TAG).unlink()
    monkeypatch.delenv("SNELLEN_CACHE", raising=False)
    monkeypatch.setattr(storage, "choose_cache_folder", lambda _: cache)
    assert (open_cache(None) / CACHE_TAG).exists()


def test_open_cache_of_two_first_runs_at_once(tmp_path: Path) -> None:
    (tmp_path / f".{CACHE_TAG}.half").touch()  # the other run is just writing the tag
    assert (open_cache(str(tmp_path)) / CACHE_TAG).exists()


def test_open_cache_tags_a_new_folder(tmp_path: Path) -> None:
    assert (open_cache(str(tmp_path / "new")) / CACHE_TAG).exists()


def test_clear_cache_tells_bytes_freed(cache: Path) -> None:
    assert clear_cache(cache) == 10 * len(CACHE_PARTS)


def test_clear_cache_of_absent_folder_frees_nothing(tmp_path: Path) -> None:
    assert clear_cache(tmp_path / "absent") == 0


@needs_posix
def test_clear_cache_spares_what_links_point_to(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "originals.txt").write_text("mine")
    (cache / "pixels" / "link").symlink_to(elsewhere)
    clear_cache(cache)
    assert (elsewhere / "originals.txt").exists()


@needs_posix
def test_clear_cache_copes_with_part_on_another_disk(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    scratch = tmp_path_factory.mktemp("scratch")
    (cache / "pixels").rename(scratch / "pixels")
    (cache / "pixels").symlink_to(scratch / "pixels")
    clear_cache(cache)
    assert sum(measure_folder(cache).values()) == 0


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0.0 MB"), (312_000_000, "312 MB"), (2_500_000_000, "2,500 MB"), (70e9, "70 GB")]
)
def test_format_bytes_is_readable_at_every_size(n_bytes: float, text: str) -> None:
    assert format_bytes(n_bytes) == text


def test_room_is_required_where_there_is_too_little(tmp_path: Path) -> None:
    require_room(tmp_path, 1000, "the run")
    with pytest.raises(StorageError, match=r"the run takes about .* are free on its disk") as caught:
        require_room(tmp_path, 10**18, "the run")
    assert "--out" in caught.value.hint


def test_describe_need_names_parts_place_and_free_space(tmp_path: Path) -> None:
    told = describe_need(tmp_path / "new" / "cache", {"pixels": 312_000_000, "features": 120_000_000})
    assert told.startswith(f"Cache: 312 MB pixels + 120 MB features in {tmp_path / 'new' / 'cache'}, ")
    assert told.endswith(" free")
