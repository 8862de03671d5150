"""Who is let in: keys and their roles, this machine without keys, nothing that another site causes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import deliver_plain_bundle
from pictures import draw_smooth, encode
from servers import Running, run_server
from snellen.core.errors import UsageError
from snellen.serve.audit_rows import ROLES
from snellen.serve.limits import LIMITS
from snellen.serve.run import ServeOptions
from snellen.serve.setup import open_service
from snellen.serve.store import Store

PNG = encode(draw_smooth(1, 30, 30))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eyes") / "bundle"
    deliver_plain_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with run_server(tmp_path_factory.mktemp("open"), [f"eyes={bundle}"]) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with run_server(tmp_path_factory.mktemp("guarded"), [f"eyes={bundle}"]) as running:
        yield running


@pytest.fixture(scope="module")
def secrets(guarded: Running) -> dict[str, str]:
    found = {role: guarded.service.store.add_key(f"my {role}", role)[1] for role in ROLES}
    guarded.service.access._asked_at = float("-inf")  # the rule may be two seconds old
    return found


@pytest.mark.parametrize("how", ["revoked", "deleted"])
def test_server_that_had_keys_stays_closed(bundle: Path, tmp_path: Path, how: str) -> None:
    with Store.open(str(tmp_path / "audit.db")) as store:
        key, secret = store.add_key("ward", "predict")
        if how == "revoked":
            store.revoke_key(key.name)
    if how == "deleted":
        with sqlite3.connect(tmp_path / "audit.db") as connection:
            connection.execute("DELETE FROM snellen_api_keys")
    with run_server(tmp_path, [f"eyes={bundle}"]) as server:
        assert [ask(server, "GET", "/v1/models", given) for given in (None, secret)] == [401, 401]
    with pytest.raises(UsageError, match="no valid key") as told:
        open_service(ServeOptions((f"eyes={bundle}",), host="192.0.2.1", db=str(tmp_path / "audit.db")), LIMITS)
    assert "audit.db" in told.value.hint


def ask(server: Running, method: str, path: str, secret: str | None, **more: object) -> int:
    headers = {"Authorization": f"Bearer {secret}"} if secret is not None else {}
    if path.endswith("predict"):
        more["files"] = {"images": ("a.png", PNG)}
    return server.client.request(method, path, headers=headers, **more).status_code  # type: ignore[arg-type]


ROUTES = {
    ("POST", "/v1/models/eyes/predict"): ("predict", "admin"),
    ("GET", "/v1/models"): ROLES,
    ("GET", "/v1/models/eyes/card"): ROLES,
    ("GET", "/v1/me"): ROLES,
    ("GET", "/v1/jobs"): ("predict", "admin"),
    ("GET", "/v1/predictions"): ("read", "admin"),
    ("GET", "/metrics"): ("read", "admin"),
    ("POST", "/v1/models/eyes/reload"): ("admin",),
}


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_each_role_may_do_what_it_is_for(guarded: Running, secrets: dict[str, str], route: tuple[str, str]) -> None:
    assert {role: ask(guarded, *route, secrets[role]) for role in ROLES} == {
        role: 200 if role in ROUTES[route] else 403 for role in ROLES
    }
    assert [ask(guarded, *route, wrong) for wrong in (None, "x", "nonsense", secrets["admin"][:-1])] == [401] * 4


def test_every_route_below_v1_asks_for_a_key(guarded: Running, secrets: dict[str, str]) -> None:
    document = guarded.client.get("/v1/openapi.json").json()
    open_to_all = {"/healthz", "/readyz"}
    for path, methods in document["paths"].items():
        for method in methods:
            answer = guarded.client.request(method.upper(), path.replace("{", "").replace("}", ""))
            assert (answer.status_code == 401) != (path in open_to_all), (method, path)


def test_refusal_tells_how_to_sign_in_and_shows_no_key(guarded: Running, secrets: dict[str, str]) -> None:
    answer = guarded.client.get("/v1/models", headers={"Authorization": "Bearer snellen_wrong_secret"})
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["error"]["code"] == "key_unknown"
    assert "wrong_secret" not in answer.text + guarded.said.getvalue()
    assert all(secret not in guarded.said.getvalue() for secret in secrets.values())


def test_prediction_is_recorded_with_the_key_and_a_job_belongs_to_it(guarded: Running, secrets: dict[str, str]) -> None:
    me = guarded.client.get("/v1/me", headers={"Authorization": f"Bearer {secrets['predict']}"}).json()
    assert (me["name"], me["roles"], me["needs_key"]) == ("my predict", ["predict"], True)
    ask(guarded, "POST", "/v1/models/eyes/predict", secrets["predict"])
    headers = {"Authorization": f"Bearer {secrets['read']}"}
    newest = guarded.client.get("/v1/predictions", headers=headers).json()["predictions"][0]
    assert newest["key_id"] == me["key_id"]
    _, other = guarded.service.store.add_key("somebody else", "predict")
    own = {"Authorization": f"Bearer {secrets['predict']}"}
    job = guarded.post("/v1/jobs", {"a.png": PNG}, headers=own).json()["job_id"]
    assert ask(guarded, "GET", f"/v1/jobs/{job}", secrets["predict"]) == 200
    assert ask(guarded, "GET", f"/v1/jobs/{job}", secrets["admin"]) == 200
    assert ask(guarded, "GET", f"/v1/jobs/{job}", other) == 404
    assert ask(guarded, "GET", f"/v1/jobs/{job}/results", other) == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "elsewhere.example"}, 403),
        ({"Host": "elsewhere.example:80"}, 403),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:8080"}, 200),
    ],
)
def test_without_keys_other_sites_and_other_names_are_refused(
    server: Running, headers: dict[str, str], status: int
) -> None:
    files = {"images": ("a.png", PNG)}
    assert server.client.post("/v1/models/eyes/predict", files=files, headers=headers).status_code == status


def test_no_other_site_may_read_an_answer(server: Running) -> None:
    answer = server.client.get("/v1/models", headers={"Origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])  # noqa: S104  # nothing is bound
def test_another_address_needs_a_key_first_or_insecure(bundle: Path, tmp_path: Path, host: str) -> None:
    options = {"bundles": (str(bundle),), "host": host, "db": str(tmp_path / "audit.db")}
    with pytest.raises(UsageError, match="no valid key") as refused:
        open_service(ServeOptions(**options), LIMITS)  # type: ignore[arg-type]
    assert "snellen keys add" in refused.value.hint
    service = open_service(ServeOptions(**options, is_insecure=True), LIMITS)  # type: ignore[arg-type]
    assert not service.access.needs_keys
    service.store.add_key("a", "predict")
    service.store.close()
    service = open_service(ServeOptions(**options), LIMITS)  # type: ignore[arg-type]
    assert service.access.needs_keys
    service.store.close()
