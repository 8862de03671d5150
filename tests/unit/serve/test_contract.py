"""The OpenAPI document is kept: what schemathesis makes of it is answered as it says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving_contract import Asker, ask_all, find_problem

from models import deliver_plain_bundle
from servers import Running, run_server

N_CASES = 500


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("eyes")
    deliver_plain_bundle(folder / "bundle")
    with run_server(folder, [f"eyes={folder / 'bundle'}"]) as running:
        yield running


@pytest.fixture(scope="module")
def keys(server: Running) -> list[dict[str, str]]:
    store = server.service.store
    known = [store.add_key(role, role)[1] for role in ("admin", "predict", "read")]
    server.service.access._asked_at = float("-inf")  # else it looks for the first key after two seconds only
    return [*({"Authorization": f"Bearer {secret}"} for secret in known), {}, {"Authorization": "Bearer snellen_wrong"}]


def test_every_answer_is_as_the_document_says(server: Running, keys: list[dict[str, str]]) -> None:
    """500 requests, the same every time; bench/serving_contract.py sends more."""
    asker = Asker(server.base, "eyes", keys)
    found = ask_all(asker, server.client.get("/v1/openapi.json").json(), N_CASES, 0)
    asker.close()
    assert sum(seen.n_cases for seen in found) >= N_CASES
    assert [f"{seen.operation}: {defect}" for seen in found for defect in seen.defects] == []
    assert all(seen.statuses for seen in found)
    assert {status for seen in found for status in seen.statuses} >= {200, 202, 401, 403, 404, 422}
    assert [event for name in ("failed", "job_failed", "jobs_failed") for event in server.list_events(name)] == []


def test_methods_that_are_not_documented_are_405_and_say_which_are(server: Running, keys: list[dict[str, str]]) -> None:
    document = server.client.get("/v1/openapi.json").json()
    for path, documented in document["paths"].items():
        for method in {"get", "head", "post", "put", "patch", "delete", "options", "trace"} - set(documented):
            answer = server.client.request(method, path.replace("{", "").replace("}", ""), headers=keys[0])
            assert answer.status_code == 405, (method, path)
            assert {name.strip().lower() for name in answer.headers["allow"].split(",")} == set(documented)
            if method != "head":
                assert not find_problem(answer)
    assert server.client.put("/page/app.js").headers["allow"] == "GET, HEAD"
