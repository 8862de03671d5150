"""Several bundles side by side, and a new version that takes a place without a dropped request."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models import deliver_plain_bundle
from pictures import draw_smooth, encode
from servers import Running, run_server, wait_until
from snellen.core.errors import BundleError, UsageError
from snellen.serve.limits import LIMITS
from snellen.serve.models import read_source, to_name
from snellen.serve.run import ServeOptions
from snellen.serve.setup import open_service

PNG = encode(draw_smooth(1, 30, 30))


def deliver(folder: Path, slope: float) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    deliver_plain_bundle(folder, weight=np.array([[0, slope], [0, 0], [0, 0]], np.float32))
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    deliver(tmp_path / "bundle", 1.0)
    with run_server(tmp_path, [f"eyes={tmp_path / 'bundle'}"]) as running:
        yield running


def test_new_version_drops_no_request(server: Running, tmp_path: Path) -> None:
    seen: set[str] = set()
    wrong: list[int] = []
    is_over = threading.Event()

    def keep_asking() -> None:
        while not is_over.is_set():
            answer = server.predict("eyes", {"a.png": PNG})
            if answer.status_code == 200:
                seen.add(answer.json()["model_sha256"])
            else:
                wrong.append(answer.status_code)

    askers = [threading.Thread(target=keep_asking) for _ in range(3)]
    for asker in askers:
        asker.start()
    before = server.client.get("/v1/models/eyes").json()["sha256"]
    for slope in (2.0, 3.0):
        deliver(tmp_path / "bundle", slope)
        answer = server.client.post("/v1/models/eyes/reload")
        assert answer.status_code == 200
    after = answer.json()["sha256"]
    server.predict("eyes", {"a.png": PNG})
    is_over.set()
    for asker in askers:
        asker.join()
    assert wrong == []
    assert after != before
    assert server.predict("eyes", {"a.png": PNG}).json()["model_sha256"] == after
    metrics = server.client.get("/metrics").text
    assert f'snellen_model_info{{model="eyes",sha256="{after}"}} 1.0' in metrics
    assert before not in metrics


def test_request_that_arrives_during_a_reload_is_answered_by_the_version_it_met(
    server: Running, tmp_path: Path
) -> None:
    whole = server.client.build_request("POST", "/v1/models/eyes/predict", files={"images": ("a.png", PNG)})
    body = whole.read()
    before = server.client.get("/v1/models/eyes").json()["sha256"]

    def send_around_a_reload() -> Iterator[bytes]:
        yield body[:100]
        wait_until(lambda: next(iter(server.service.models)).is_held)
        deliver(tmp_path / "bundle", 2.0)
        server.service.models.reload("eyes")
        yield body[100:]

    headers = {"Content-Type": whole.headers["Content-Type"], "Content-Length": str(len(body))}
    answer = server.client.post("/v1/models/eyes/predict", content=send_around_a_reload(), headers=headers)
    assert (answer.status_code, answer.json().get("model_sha256")) == (200, before)
    assert server.predict("eyes", {"a.png": PNG}).json()["model_sha256"] != before


def test_retired_version_is_never_handed_out(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    models = server.service.models
    old = models.find("eyes")
    new = models.reload("eyes")
    found = iter([old])  # who looked just before the reload
    monkeypatch.setattr(models, "find", lambda _: next(found, new))
    with models.hold("eyes") as held:
        assert held is new
    assert not new.is_held


def test_nobody_waits_for_a_server_that_ends(server: Running) -> None:
    server.service.models.close()
    answer = server.predict("eyes", {"a.png": PNG})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopping")


def test_old_versions_leave_no_thread(server: Running, tmp_path: Path) -> None:
    def count() -> int:
        return sum(thread.name == "scoring" for thread in threading.enumerate())

    before = count()
    for _ in range(3):
        assert server.client.post("/v1/models/eyes/reload").status_code == 200
    wait_until(lambda: count() == before)


def test_damaged_version_changes_nothing(server: Running, tmp_path: Path) -> None:
    (tmp_path / "bundle" / "model.onnx").write_bytes(b"damaged")
    answer = server.client.post("/v1/models/eyes/reload")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "bundle")
    assert server.predict("eyes", {"a.png": PNG}).status_code == 200


def test_bundles_of_one_name_are_told_apart(tmp_path: Path) -> None:
    bundle = deliver(tmp_path / "bundle", 1.0)
    with pytest.raises(UsageError, match="Two bundles are called plain") as refused:
        open_service(ServeOptions((str(bundle), str(bundle)), db=str(tmp_path / "a.db")), LIMITS)
    assert "plain-2=" in refused.value.hint


def test_damaged_bundle_is_refused_before_anything_is_served(tmp_path: Path) -> None:
    bundle = deliver(tmp_path / "bundle", 1.0)
    (bundle / "gate.npz").write_bytes(b"damaged")
    with pytest.raises(BundleError, match="altered"):
        open_service(ServeOptions((str(bundle),), db=str(tmp_path / "a.db")), LIMITS)


def test_sources_may_have_names(tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    assert read_source("runs/a/bundle").name == ""
    assert (read_source("eyes=runs/a").name, read_source("eyes=runs/a").path) == ("eyes", Path("runs/a"))
    assert read_source(str(tmp_path / "a=b")).name == ""
    with pytest.raises(UsageError, match="cannot name a model"):
        read_source("my eyes/=runs/a")


@pytest.mark.parametrize(
    ("title", "name"), [("tiny eyes", "tiny-eyes"), ("Ödem & Co.", "dem-co"), ("眼", "model"), ("x" * 99, "x" * 64)]
)
def test_titles_become_names_for_addresses(title: str, name: str) -> None:
    assert to_name(title) == name
