"""The API over a real socket: what is answered, what is refused, what is recorded."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import httpx
import numpy as np
import pytest

from models import deliver_plain_bundle
from pictures import draw_smooth, encode
from servers import Running, run_server
from snellen.core.errors import StoreUnavailableError
from snellen.inference.load import load_bundle

GOOD = {f"{seed}.png": encode(draw_smooth(seed, 40, 30)) for seed in range(12)}
BAD = b"this is no picture at all, and longer than any header of one would have to be"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eyes") / "bundle"
    deliver_plain_bundle(folder, positive="sick", weight=np.array([[0, 6], [0, -6], [0, 0]], np.float32))
    return folder


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with run_server(tmp_path_factory.mktemp("audit"), [f"eyes={bundle}", f"other={bundle}"]) as running:
        yield running


def read_error(answer: object) -> dict[str, str]:
    body = answer.json()  # type: ignore[attr-defined]
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "hint", "request_id"}
    assert body["error"]["request_id"] == answer.headers["x-request-id"]  # type: ignore[attr-defined]
    return dict(body["error"])


def test_scores_over_http_are_those_of_predict(server: Running, bundle: Path, tmp_path: Path) -> None:
    for name, content in GOOD.items():
        (tmp_path / name).write_bytes(content)
    expected = load_bundle(bundle).predict([tmp_path / name for name in GOOD])
    found = server.predict("eyes", GOOD).json()["predictions"]
    assert [row["filename"] for row in found] == list(GOOD)
    for row, wanted in zip(found, expected, strict=True):
        assert row["probabilities"] == pytest.approx(wanted.probabilities, abs=1e-5)
        assert (row["prediction"], row["decision"]) == (wanted.prediction, wanted.decision)
        assert (row["abstain"], row["reason"], row["error"], row["set"]) == (wanted.abstain, wanted.reason, None, None)
    assert len({row["decision"] for row in found}) == 2  # else the test would show little


def test_answer_names_model_and_request(server: Running, bundle: Path) -> None:
    answer = server.predict("eyes", {"a.png": GOOD["0.png"]})
    body = answer.json()
    assert set(body) == {"request_id", "model", "model_sha256", "predictions"}
    assert body["request_id"] == answer.headers["x-request-id"]
    assert (body["model"], body["model_sha256"]) == ("eyes", load_bundle(bundle).sha256)


def test_mixed_request_is_answered_with_an_error_a_picture(server: Running) -> None:
    answer = server.predict("eyes", {"good.png": GOOD["1.png"], "bad.jpg": BAD, "empty.png": b""})
    assert answer.status_code == 200
    good, bad, empty = answer.json()["predictions"]
    assert (good["error"], bad["prediction"], bad["probabilities"]) == (None, None, {})
    assert bad["abstain"] is True
    assert bad["reason"]
    assert bad["error"]["code"] == empty["error"]["code"] == "unreadable_picture"
    assert "no picture" in bad["error"]["message"]


@pytest.mark.parametrize("files", [{"a.jpg": BAD}, {"a.jpg": BAD, "b.jpg": b""}])
def test_request_without_any_readable_picture_is_422(server: Running, files: dict[str, bytes]) -> None:
    answer = server.predict("eyes", files)
    assert answer.status_code == 422
    assert read_error(answer)["code"] == "unreadable_picture"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/page/nothing.js", 404, "not_found"),
        ("GET", "/page/../app.py", 404, "not_found"),
        ("GET", "/page/%2e%2e/app.py", 404, "not_found"),
        ("GET", "/v1/models/none/card", 404, "unknown_model"),
        ("POST", "/v1/models/none/predict", 404, "unknown_model"),
        ("GET", "/v1/models/eyes/predict", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/v1/models/eyes/predict", 415, "wrong_content_type"),
        ("GET", "/v1/predictions?limit=0", 422, "invalid_request"),
        ("GET", "/v1/predictions?before=x", 422, "invalid_request"),
        ("GET", "/v1/predictions?colour=red", 422, "invalid_request"),
        ("GET", "/v1/predictions?since=2026-01-01T00:00:00", 422, "invalid_request"),
        ("GET", "/v1/predictions?since=1700000000", 422, "invalid_request"),
        ("GET", "/v1/predictions?until=-1.5", 422, "invalid_request"),
        ("GET", "/v1/jobs/none", 404, "unknown_job"),
        ("POST", "/v1/jobs", 422, "model_missing"),
        ("PUT", "/", 405, "method_not_allowed"),
    ],
)
def test_every_refusal_has_one_shape(server: Running, method: str, path: str, status: int, code: str) -> None:
    answer = server.client.request(method, path)
    assert answer.status_code == status
    assert read_error(answer)["code"] == code


def test_unknown_field_is_refused_and_known_ones_are_told(server: Running) -> None:
    answer = server.client.post("/v1/models/eyes/predict", files={"image": ("a.png", GOOD["0.png"])})
    assert answer.status_code == 422
    assert "images" in read_error(answer)["hint"]


def test_form_without_pictures_is_refused(server: Running) -> None:
    body = b"--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = server.client.post("/v1/models/eyes/predict", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert read_error(answer)["code"] in ("bad_form", "no_pictures")


def test_defect_of_ours_is_told_without_its_text(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("P0001 Doe^Jane")

    monkeypatch.setattr(server.service.store, "list_predictions", fail)
    answer = server.client.get("/v1/predictions")
    assert answer.status_code == 500
    error = read_error(answer)
    assert error["code"] == "internal"
    assert "Doe" not in answer.text + server.said.getvalue()
    assert server.list_events("failed")[-1]["error"] == "ZeroDivisionError"


def test_scoring_that_fails_reaches_the_client_and_the_next_request_is_answered(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = server.service.models.find("eyes").predictor
    with monkeypatch.context() as patch:
        patch.setattr(predictor, "describe", lambda _: 1 / 0)
        assert server.predict("eyes", {"a.png": GOOD["0.png"]}).status_code == 500
    assert server.predict("eyes", {"a.png": GOOD["0.png"]}).status_code == 200


def test_each_answer_is_recorded_without_name_or_pixels(server: Running) -> None:
    content = encode(draw_smooth(77, 50, 50))
    answer = server.predict("eyes", {"Doe^Jane 1950.png": content, "x": BAD}).json()
    page = server.client.get("/v1/predictions", params={"request_id": answer["request_id"]}).json()
    bad, good = page["predictions"]
    assert good["image_sha256"] == hashlib.sha256(content).hexdigest()
    assert good["probabilities"] == pytest.approx(answer["predictions"][0]["probabilities"], abs=1e-9)
    assert (good["model"], good["decision"], good["filename"], good["key_id"]) == (
        "eyes", answer["predictions"][0]["decision"], None, None,
    )  # fmt: skip
    assert good["latency_ms"] > 0
    assert (bad["error"], bad["prediction"]) == ("unreadable_picture", None)
    folder = server.service.store.folder
    stored = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"Jane" not in stored
    assert "Jane" not in server.said.getvalue()


def test_nothing_is_answered_that_cannot_be_recorded_and_it_goes_on_by_itself(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Future[None]:
        failed: Future[None] = Future()
        failed.set_exception(StoreUnavailableError("the disk is full"))
        return failed

    def fail() -> None:
        raise StoreUnavailableError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(server.service.store, "submit", refuse)
        patch.setattr(server.service.store, "check", fail)
        for answer in (server.predict("eyes", {"a.png": GOOD["0.png"]}), server.client.get("/readyz")):
            assert answer.status_code == 503
            assert read_error(answer)["code"] == "store_unavailable"
            assert answer.headers["retry-after"]
            assert "disk" not in answer.text
        assert server.client.get("/healthz").status_code == 200
    assert server.predict("eyes", {"a.png": GOOD["0.png"]}).status_code == 200
    assert server.client.get("/readyz").status_code == 200


def test_frames_of_a_dicom_are_answered_one_by_one(server: Running, bundle: Path) -> None:
    data_manager = pytest.importorskip("pydicom.data", reason="needs snellen[dicom]")
    path = Path(data_manager.get_testdata_file("examples_ybr_color.dcm", download=False))
    rows = server.predict("eyes", {"scan.dcm": path.read_bytes()}).json()["predictions"]
    assert [row["filename"] for row in rows] == [f"scan.dcm::frame[{frame}]" for frame in range(30)]
    expected = load_bundle(bundle).predict([f"{path}::frame[{frame}]" for frame in range(30)])
    for row, wanted in zip(rows, expected, strict=True):
        assert row["error"] is None
        assert row["probabilities"] == pytest.approx(wanted.probabilities, abs=1e-5)


def test_headers_of_a_dicom_reach_neither_log_nor_database(server: Running) -> None:
    pydicom = pytest.importorskip("pydicom", reason="needs snellen[dicom]")
    from pydicom.data import get_testdata_file

    data = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False))
    data.PatientName, data.PatientID, data.InstitutionName = "Doe^Jane", "SECRET-4711", "Clinic of Nowhere"
    stream = io.BytesIO()
    data.save_as(stream)
    whole = stream.getvalue()
    for content in (whole, whole[:-500], whole[:1000], whole.replace(b"MONOCHROME2", b"SECRET-4711")):
        server.predict("eyes", {"SECRET-4711.dcm": content})
        server.post("/v1/models/eyes/explain", {"SECRET-4711.dcm": content})
    folder = server.service.store.folder
    stored = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for secret in ("Doe", "SECRET-4711", "Nowhere"):
        assert secret not in server.said.getvalue()
        assert secret.encode() not in stored


def test_history_goes_page_by_page_and_filters(server: Running) -> None:
    for _ in range(3):
        server.predict("other", dict(list(GOOD.items())[:4]))
    wanted = {"model": "other", "limit": 5}
    first = server.client.get("/v1/predictions", params=wanted).json()
    second = server.client.get("/v1/predictions", params={**wanted, "before": first["next_before"]}).json()
    rows = [row["row"] for row in (*first["predictions"], *second["predictions"])]
    assert rows == sorted(rows, reverse=True)
    assert len(set(rows)) == 10
    none = server.client.get("/v1/predictions", params={"model": "other", "until": "2001-01-01T00:00:00Z"}).json()
    assert none == {"predictions": [], "next_before": None}


def test_history_as_csv_holds_every_row(server: Running) -> None:
    answer = server.predict("eyes", GOOD).json()
    got = server.client.get("/v1/predictions", params={"format": "csv", "request_id": answer["request_id"]})
    assert got.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(got.text)))
    assert len(rows) == len(GOOD)
    assert json.loads(rows[-1]["probabilities"]) == pytest.approx(answer["predictions"][0]["probabilities"], abs=1e-9)


def test_models_and_card_are_told(server: Running, bundle: Path) -> None:
    answer = server.client.get("/v1/models")
    assert answer.status_code == 200, answer.text
    eyes, other = answer.json()["models"]
    assert (eyes["name"], other["name"], eyes["classes"], eyes["positive"]) == (
        "eyes", "other", ["healthy", "sick"], "sick",
    )  # fmt: skip
    assert eyes["operating_points"][0]["threshold"] == 0.5
    assert eyes == server.client.get("/v1/models/eyes").json()
    card = server.client.get("/v1/models/eyes/card")
    assert card.text == (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_explain_draws_what_the_model_sees_and_a_map_of_its_size(server: Running) -> None:
    from PIL import Image

    sizes = {}
    for view in ("picture", "map"):
        answer = server.post(
            "/v1/models/eyes/explain", {"a.png": GOOD["3.png"]}, params={"view": view, "class": "sick"}
        )
        assert answer.headers["content-type"] == "image/png"
        image = Image.open(io.BytesIO(answer.content))
        sizes[view] = (image.size, image.mode)
    assert sizes == {"picture": ((8, 8), "RGB"), "map": ((8, 8), "RGBA")}


def test_class_that_explain_chooses_is_recorded_as_a_prediction(server: Running) -> None:
    def explain(**query: str) -> httpx.Response:
        return server.post("/v1/models/eyes/explain", {"a.png": GOOD["3.png"]}, params=query)

    def list_rows(answer: httpx.Response) -> list[dict[str, object]]:
        wanted = {"request_id": answer.headers["X-Request-ID"]}
        return list(server.client.get("/v1/predictions", params=wanted).json()["predictions"])

    chosen = explain()
    (row,) = list_rows(chosen)
    assert row["prediction"] == chosen.headers["X-Snellen-Class"]
    assert row["image_sha256"] == hashlib.sha256(GOOD["3.png"]).hexdigest()
    for query in ({"class": "sick"}, {"view": "picture"}):
        asked = explain(**query)
        assert (asked.status_code, list_rows(asked)) == (200, [])


def test_set_is_recorded_as_it_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver_plain_bundle(tmp_path / "bundle")
    with run_server(tmp_path, [f"eyes={tmp_path / 'bundle'}"]) as running:
        predictor = running.service.models.find("eyes").predictor
        plain = predictor.describe
        told = ("healthy", "sick")
        monkeypatch.setattr(
            predictor, "describe", lambda pixels: [each.model_copy(update={"set": told}) for each in plain(pixels)]
        )
        answer = running.predict("eyes", {"a.png": GOOD["0.png"], "b.png": BAD}).json()
        assert [each["set"] for each in answer["predictions"]] == [list(told), None]
        rows = running.client.get("/v1/predictions").json()["predictions"]
        assert [row["set"] for row in rows] == [None, list(told)]
        (line, _) = csv.DictReader(io.StringIO(running.client.get("/v1/predictions?format=csv").text))
        assert line["set"] == ""


@pytest.mark.parametrize(
    ("files", "query", "code"),
    [
        ({"a.png": GOOD["0.png"], "b.png": GOOD["1.png"]}, {}, "one_picture"),
        ({"a.png": GOOD["0.png"]}, {"class": "nothing"}, "unknown_class"),
        ({"a.png": BAD}, {}, "unreadable_picture"),
    ],
)
def test_explain_refuses_in_the_one_shape(
    server: Running, files: dict[str, bytes], query: dict[str, str], code: str
) -> None:
    answer = server.post("/v1/models/eyes/explain", files, params=query)
    assert (answer.status_code, read_error(answer)["code"]) == (422, code)


def test_health_readiness_and_metrics(server: Running) -> None:
    server.predict("eyes", {"good.png": GOOD["1.png"], "bad.jpg": BAD})
    assert server.client.get("/healthz").json() == {"status": "ok"}
    assert server.client.get("/readyz").json() == {"status": "ok"}
    text = server.client.get("/metrics").text
    assert 'snellen_pictures_total{model="eyes",outcome="unreadable"}' in text
    assert 'route="/v1/models/{name}/predict",status="200"' in text
    assert "good.png" not in text


def test_openapi_document_is_31_and_names_the_error_shape(server: Running) -> None:
    document = server.client.get("/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    predict = document["paths"]["/v1/models/{name}/predict"]["post"]
    assert "multipart/form-data" in predict["requestBody"]["content"]
    for status in ("413", "422", "429", "503"):
        assert predict["responses"][status]["content"]["application/json"]["schema"]["$ref"].endswith("ErrorBody")


def test_every_answer_forbids_what_a_page_does_not_need(server: Running) -> None:
    for path in ("/", "/docs", "/v1/models", "/v1/nothing", "/page/main.js"):
        headers = server.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    assert server.client.get("/v1/models").headers["cache-control"] == "no-store"


def test_page_holds_no_inline_script_or_style_and_asks_nobody_else() -> None:
    import re

    from snellen.serve.app import PAGE

    for path in PAGE.glob("*"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<script(?![^>]*src=)|\son\w+=\"|style=\"|innerHTML|eval\(", text), path.name
        assert not re.search(r"https?://(?!www\.w3\.org)", text), path.name
