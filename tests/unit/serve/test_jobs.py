"""Jobs: many pictures or a zip, in the background, across a restart."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import socket
import struct
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import pytest

from models import deliver_plain_bundle
from pictures import draw_smooth, encode
from servers import Running, run_server, wait_until
from snellen.inference.load import load_bundle
from snellen.prediction import to_csv
from snellen.serve import job_files, jobs, routes_jobs
from snellen.serve.audit_rows import PredictionFilter
from snellen.serve.job_files import JobFiles
from snellen.serve.limits import LIMITS

PICTURES = {f"visit-{seed}/eye.png": encode(draw_smooth(seed, 30, 30)) for seed in range(20)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eyes") / "bundle"
    deliver_plain_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with run_server(tmp_path_factory.mktemp("audit"), [f"eyes={bundle}"]) as running:
        yield running


def pack(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def send(server: Running, files: Mapping[str, bytes]) -> dict[str, Any]:
    answer = server.post("/v1/jobs", files)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def finish(server: Running, job_id: str) -> dict[str, Any]:
    wait_until(lambda: server.client.get(f"/v1/jobs/{job_id}").json()["state"] not in ("queued", "running"))
    return dict(server.client.get(f"/v1/jobs/{job_id}").json())


def read_rows(server: Running, job_id: str) -> list[dict[str, str]]:
    answer = server.client.get(f"/v1/jobs/{job_id}/results")
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_zip_is_predicted_as_snellen_predict_does(server: Running, bundle: Path, tmp_path: Path) -> None:
    job = send(server, {"all.zip": pack({**PICTURES, "notes.txt": b"no picture", "__MACOSX/._eye.png": b"x"})})
    assert job["n_total"] == len(PICTURES)
    done = finish(server, job["job_id"])
    assert (done["state"], done["n_done"], done["n_failed"]) == ("done", len(PICTURES), 0)
    predictor = load_bundle(bundle)
    expected = [
        prediction.model_copy(update={"path": name})
        for name, prediction in zip(PICTURES, predictor.predict(PICTURES.values()), strict=True)
    ]
    got, wanted = (
        read_rows(server, job["job_id"]),
        list(csv.DictReader(io.StringIO(to_csv(expected, predictor.classes)))),
    )
    for row, other in zip(got, wanted, strict=True):
        for column in row:
            if column.startswith("probability_"):
                assert float(row[column]) == pytest.approx(float(other[column]), abs=1e-5)
            else:
                assert row[column] == other[column]


def test_job_records_every_picture_and_keeps_none(server: Running) -> None:
    job = send(server, {"a.png": PICTURES["visit-0/eye.png"], "bad.png": b"no picture", "b.zip": pack(PICTURES)})
    done = finish(server, job["job_id"])
    assert (done["n_done"], done["n_failed"]) == (22, 1)
    rows = server.client.get("/v1/predictions", params={"request_id": job["job_id"], "limit": 100}).json()
    assert len(rows["predictions"]) == 22
    folder = server.service.store.find_job(job["job_id"]).folder  # type: ignore[union-attr]
    wait_until(lambda: not (folder / "sent").exists())
    assert [row["path"] for row in read_rows(server, job["job_id"])][:2] == ["a.png", "bad.png"]


def test_what_is_left_out_of_an_archive_is_told_without_names(server: Running) -> None:
    inner = pack({"Doe^Jane.png": PICTURES["visit-0/eye.png"]})
    files = {
        "a/eye.png": PICTURES["visit-0/eye.png"], "Jane/inner.zip": inner, "Jane/scan.heic": b"x",
        "Roe/scan.heic": b"x", "Jane.Doe": b"x", "Thumbs.db": b"x", ".DS_Store": b"x", "__MACOSX/._eye.png": b"x",
    }  # fmt: skip
    job = send(server, {"all.zip": pack(files)})
    assert job["n_total"] == 1
    told = "Left out, because no picture that Snellen reads: 2 × .heic, 1 × .zip, 1 × of another kind."
    assert job["message"] == told
    assert finish(server, job["job_id"])["message"] == job["message"]


def test_empty_archive_holds_no_picture(server: Running) -> None:
    answer = server.post("/v1/jobs", {"empty.zip": pack({})})
    assert (answer.status_code, "no picture" in answer.text) == (422, True)


def test_servers_that_share_a_database_share_its_jobs_out(bundle: Path, tmp_path: Path) -> None:
    with run_server(tmp_path, [f"eyes={bundle}"]) as one, run_server(tmp_path, [f"eyes={bundle}"]) as other:
        sent = [send(server, {"all.zip": pack(PICTURES)}) for server in (one, other, one, other)]
        for job in sent:
            assert finish(one, job["job_id"])["state"] == "done"
            assert [row["path"] for row in read_rows(other, job["job_id"])] == list(PICTURES)
        assert one.service.store.count_predictions(PredictionFilter()) == len(sent) * len(PICTURES)


def test_job_of_a_server_that_died_is_taken_over_by_one_that_runs(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_SHARED_LOOK_S", 0.05)
    with run_server(tmp_path, [f"eyes={bundle}"]) as server:
        store = server.service.store
        job = store.create_job("eyes", key_id=None, n_total=1)
        files = JobFiles(job.folder)
        with files.hold() as is_ours:  # another server
            assert is_ours
            with files.open_sink() as sink:
                sink.write(PICTURES["visit-0/eye.png"])
            files.write_list(["a.png"], server.service.models.find("eyes").predictor.classes, LIMITS)
            server.service.jobs.wake()
            time.sleep(0.5)
            assert server.client.get(f"/v1/jobs/{job.job_id}").json()["state"] == "queued"
        assert finish(server, job.job_id)["n_done"] == 1


def make_bomb() -> bytes:
    return pack({"bomb.png": bytes(60_000_000)})


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"x.zip": pack({"../../outside.png": PICTURES["visit-0/eye.png"]})}, "leads out"),
        ({"x.zip": pack({"/etc/outside.png": b"x"})}, "absolute name"),
        ({"x.zip": make_bomb()}, "would grow"),
        ({"x.zip": pack(PICTURES)[:-40]}, "no readable zip"),
        ({"x.zip": pack({"notes.txt": b"nothing"})}, "no picture"),
        ({"x.zip": pack({"a.png": PICTURES["visit-0/eye.png"]}, zipfile.ZIP_BZIP2)}, "bzip2"),
    ],
)
def test_unsafe_archives_are_refused_and_leave_nothing(server: Running, files: dict[str, bytes], told: str) -> None:
    before = server.client.get("/v1/jobs").json()
    answer = server.post("/v1/jobs", files)
    assert (answer.status_code, set(answer.json())) == (422, {"error"})
    assert told in answer.text
    assert str(server.service.store.folder) not in answer.text
    assert server.client.get("/v1/jobs").json() == before


def test_entries_that_begin_before_the_archive_are_unreadable_one_by_one(server: Running) -> None:
    """Found by bench/serving_hostile.py: it was answered with 500."""
    archive = bytearray(pack({"a.png": PICTURES["visit-0/eye.png"], "b.dcm": b"\0" * 128 + b"DICM"}))
    (offset,) = struct.unpack_from("<I", archive, len(archive) - 6)
    struct.pack_into("<I", archive, len(archive) - 6, offset + 10_000)
    done = finish(server, send(server, {"x.zip": bytes(archive)})["job_id"])
    assert (done["state"], done["n_done"], done["n_failed"]) == ("done", 2, 2)


def test_job_without_files_is_refused(server: Running) -> None:
    answer = server.client.post("/v1/jobs", files={"other": ("a.png", b"x")})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unknown_field")


def hold_scoring(server: Running, monkeypatch: pytest.MonkeyPatch, after: int) -> threading.Event:
    """Scoring stops after so many batches until the event is set."""
    predictor = server.service.models.find("eyes").predictor
    plain, go_on, seen = predictor.describe, threading.Event(), []

    def describe(pixels: Any) -> Any:
        seen.append(len(pixels))
        if sum(seen) > after:
            go_on.wait(20)
        return plain(pixels)

    monkeypatch.setattr(predictor, "describe", describe)
    return go_on


def test_job_can_be_cancelled_and_then_deleted(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = hold_scoring(server, monkeypatch, after=8)
    job = send(server, {"all.zip": pack(PICTURES)})["job_id"]
    wait_until(lambda: server.client.get(f"/v1/jobs/{job}").json()["n_done"] == 8)
    assert server.client.delete(f"/v1/jobs/{job}").status_code == 409
    assert server.client.post(f"/v1/jobs/{job}/cancel").json()["state"] == "cancelled"
    go_on.set()
    folder = server.service.store.find_job(job).folder  # type: ignore[union-attr]
    wait_until(lambda: not (folder / "sent").exists())
    assert server.client.get(f"/v1/jobs/{job}").json()["state"] == "cancelled"
    assert len(read_rows(server, job)) < len(PICTURES)
    assert server.client.delete(f"/v1/jobs/{job}").status_code == 204
    assert server.client.get(f"/v1/jobs/{job}").status_code == 404
    assert not folder.exists()


def test_job_deleted_while_it_is_at_hand_hinders_no_other(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = hold_scoring(server, monkeypatch, after=8)
    job = send(server, {"all.zip": pack(PICTURES)})["job_id"]
    wait_until(lambda: server.client.get(f"/v1/jobs/{job}").json()["n_done"] == 8)
    folder = server.service.store.find_job(job).folder  # type: ignore[union-attr]
    server.client.post(f"/v1/jobs/{job}/cancel")
    assert server.client.delete(f"/v1/jobs/{job}").status_code == 204
    go_on.set()
    assert finish(server, send(server, {"a.png": PICTURES["visit-0/eye.png"]})["job_id"])["state"] == "done"
    assert server.client.get(f"/v1/jobs/{job}").status_code == 404
    assert not folder.exists()
    assert server.list_events("job_failed") == []


def test_defect_beside_the_jobs_does_not_end_them(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    store = server.service.store
    plain, failed = store.unfinished_jobs, []

    def fail_once() -> Any:
        if threading.current_thread().name == "jobs" and not failed:
            failed.append(1)
            raise RuntimeError("a defect")
        return plain()

    monkeypatch.setattr(store, "unfinished_jobs", fail_once)
    assert finish(server, send(server, {"a.png": PICTURES["visit-0/eye.png"]})["job_id"])["state"] == "done"
    assert failed
    assert [event["error"] for event in server.list_events("jobs_failed")] == ["RuntimeError"]


def test_cancelling_deletes_no_picture_that_is_being_read(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, begun, go_on = JobFiles.read_list, threading.Event(), threading.Event()

    def read_slowly(files: JobFiles) -> Any:
        found = plain(files)
        begun.set()
        assert go_on.wait(20)
        return found

    monkeypatch.setattr(JobFiles, "read_list", read_slowly)
    job = send(server, {"a.png": PICTURES["visit-0/eye.png"]})["job_id"]
    assert begun.wait(20)
    folder = server.service.store.find_job(job).folder  # type: ignore[union-attr]
    assert server.client.post(f"/v1/jobs/{job}/cancel").json()["state"] == "cancelled"
    assert (folder / "sent").exists()
    go_on.set()
    wait_until(lambda: not (folder / "sent").exists())


def test_large_files_of_a_job_are_not_held_all_at_once(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = server.service.models.find("eyes").scorer
    plain, held = scorer.submit, []

    def submit(content: bytes, frame: int | None = None) -> Any:
        answer = plain(content, frame)
        held.append((answer, len(content)))
        sums.append(sum(size for found, size in held if not found.done()))
        return answer

    sums: list[int] = []
    size = max(map(len, PICTURES.values()))
    monkeypatch.setattr(scorer, "submit", submit)
    monkeypatch.setattr(jobs, "_GROUP_BYTES", 2 * size)
    assert finish(server, send(server, {"all.zip": pack(PICTURES)})["job_id"])["n_done"] == len(PICTURES)
    assert len(sums) == len(PICTURES)
    assert max(sums) <= 3 * size


def test_archive_is_opened_once_for_all_its_pictures(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, plain = [], job_files.open_zip

    def count(path: Path, stream: IO[bytes]) -> zipfile.ZipFile:
        opened.append(stream)
        return plain(path, stream)

    monkeypatch.setattr(job_files, "open_zip", count)
    assert finish(server, send(server, {"all.zip": pack(PICTURES)})["job_id"])["n_failed"] == 0
    assert len(opened) == 2  # to list them, and to read them
    wait_until(lambda: all(stream.closed for stream in opened))


def test_jobs_that_come_at_once_are_no_more_than_the_limit(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_server(tmp_path, [f"eyes={bundle}"], limits=dataclasses.replace(LIMITS, jobs=1)) as server:
        go_on = hold_scoring(server, monkeypatch, after=0)
        plain, together = server.service.store.create_job, threading.Barrier(2)

        def create(*arguments: Any, **named: Any) -> Any:
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(1)  # both have counted, if they can
            return plain(*arguments, **named)

        monkeypatch.setattr(server.service.store, "create_job", create)
        with ThreadPoolExecutor(2) as pool:
            found = [pool.submit(server.post, "/v1/jobs", {"a.png": PICTURES["visit-0/eye.png"]}) for _ in range(2)]
        go_on.set()
        assert sorted(answer.result().status_code for answer in found) == [202, 429]


def test_job_that_is_done_before_its_number_was_told_has_it(server: Running) -> None:
    job = server.service.store.create_job("eyes", key_id=None, n_total=0)
    files = JobFiles(job.folder)
    with files.open_sink() as sink:
        sink.write(PICTURES["visit-0/eye.png"])
    files.write_list(["a.png"], server.service.models.find("eyes").predictor.classes, server.service.limits)
    server.service.jobs.wake()
    assert finish(server, job.job_id)["n_total"] == 1


@pytest.mark.parametrize("is_deleted", [False, True])
def test_job_cancelled_while_it_arrives_is_told_to_who_sends_it(server: Running, is_deleted: bool) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
    body = head + PICTURES["visit-0/eye.png"] + b"\r\n" + head + PICTURES["visit-1/eye.png"] + b"\r\n--x--\r\n"
    known = {job["job_id"] for job in server.client.get("/v1/jobs").json()["jobs"]}

    def find_new() -> str | None:
        return next((job.job_id for job in server.service.store.list_jobs() if job.job_id not in known), None)

    with socket.create_connection(("127.0.0.1", int(server.base.rpartition(":")[2])), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:200]
        )
        wait_until(find_new)
        job = find_new()
        assert server.client.post(f"/v1/jobs/{job}/cancel").status_code == 200
        if is_deleted:
            assert server.client.delete(f"/v1/jobs/{job}").status_code == 204
        connection.sendall(body[200:])
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 409")
    assert b'"code":"job_ended"' in answer
    assert server.list_events("failed") == []


def test_jobs_that_arrive_at_once_do_not_all_count_on_the_same_space(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = encode(draw_smooth(1, 30, 30))
    monkeypatch.setattr(routes_jobs, "measure_free_space", lambda _: routes_jobs._FREE_BYTES + 10_000)
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    with socket.create_connection(("127.0.0.1", int(server.base.rpartition(":")[2])), timeout=20) as connection:
        connection.sendall(head + b"Content-Length: 9900\r\n\r\n--x\r\n")
        wait_until(lambda: server.service.jobs.arriving)
        refused = server.post("/v1/jobs", {"a.png": picture})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "disk_full")
    wait_until(lambda: not server.service.jobs.arriving)
    assert server.post("/v1/jobs", {"a.png": picture}).status_code == 202


def test_job_goes_on_after_a_restart(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_server(tmp_path, [f"eyes={bundle}"]) as first:
        go_on = hold_scoring(first, monkeypatch, after=8)
        job = send(first, {"all.zip": pack(PICTURES)})["job_id"]
        wait_until(lambda: first.client.get(f"/v1/jobs/{job}").json()["n_done"] == 8)
        first.service.jobs._is_stopped.set()
        go_on.set()
    with run_server(tmp_path, [f"eyes={bundle}"]) as second:
        done = finish(second, job)
        assert (done["state"], done["n_done"]) == ("done", len(PICTURES))
        assert [row["path"] for row in read_rows(second, job)] == list(PICTURES)
        rows = second.client.get("/v1/predictions", params={"request_id": job, "limit": 100}).json()["predictions"]
        assert len(rows) == len(PICTURES)


def test_half_a_line_of_a_killed_server_is_cut_off(tmp_path: Path, bundle: Path) -> None:
    files = JobFiles(tmp_path)
    rows = load_bundle(bundle).predict(list(PICTURES.values())[:3])
    files.append_results(rows)
    whole = (tmp_path / "results.jsonl").read_bytes()
    (tmp_path / "results.jsonl").write_bytes(whole + b'{"path": "a.p')
    assert files.mend_results() == rows
    assert (tmp_path / "results.jsonl").read_bytes() == whole


def test_upload_that_an_earlier_server_did_not_end_is_told(bundle: Path, tmp_path: Path) -> None:
    with run_server(tmp_path, [f"eyes={bundle}"]) as first:
        job = first.service.store.create_job("eyes", key_id=None, n_total=0)
    with run_server(tmp_path, [f"eyes={bundle}"]) as second:
        done = finish(second, job.job_id)
        assert (done["state"], done["message"]) == ("failed", "The server ended while it arrived.")


def test_pictures_are_kept_only_when_asked(bundle: Path, tmp_path: Path) -> None:
    with run_server(tmp_path, [f"eyes={bundle}"], keeps_images=True) as server:
        content = PICTURES["visit-3/eye.png"]
        server.predict("eyes", {"mine.png": content})
        row = server.client.get("/v1/predictions").json()["predictions"][0]
        assert row["filename"] == "mine.png"
        kept = [
            path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and row["image_sha256"] in path.name
        ]
        assert kept == [content]
