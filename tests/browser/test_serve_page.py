"""The server's page in a real browser: pictures, maps, abstention, history, keys; axe-core; nothing asked elsewhere."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import deliver_plain_bundle
from pictures import draw_smooth, encode
from servers import Running, run_server

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (uv pip install playwright)")
FOUND = find_spec("axe_playwright_python")
AXE = Path(str(FOUND.origin)).with_name("axe.min.js") if FOUND is not None else None
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
RED = np.full((40, 40, 3), (190, 110, 110), np.uint8) + draw_smooth(1, 40, 40) // 16
FILES = [
    {"name": "sick.png", "mimeType": "image/png", "buffer": encode(RED.astype(np.uint8))},
    {"name": "healthy.png", "mimeType": "image/png", "buffer": encode(RED[..., [1, 0, 2]].astype(np.uint8))},
    {"name": "blank.png", "mimeType": "image/png", "buffer": encode(np.zeros((30, 30, 3), np.uint8))},
    {"name": "<b>bad.jpg", "mimeType": "image/jpeg", "buffer": b"no picture at all" * 20},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("page")
    deliver_plain_bundle(folder / "bundle", positive="sick", weight=np.array([[0, 30], [0, -30], [0, 0]], np.float32))
    with run_server(folder, [f"eyes={folder / 'bundle'}"]) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api.expect.set_options(timeout=15_000)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def open_page(browser: Any, server: Running, **options: Any) -> Any:
    page = browser.new_page(**{"viewport": {"width": 1280, "height": 800}, "accept_downloads": True, **options})
    page.asked = []
    page.failed = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.failed.append(str(error)))
    page.goto(server.base)
    return page


def drop_all(page: Any) -> None:
    page.locator("#files").set_input_files(FILES)
    sync_api.expect(page.locator("#list .row")).to_have_count(len(FILES))
    sync_api.expect(page.locator("#list .badge.waiting")).to_have_count(0)


def test_pictures_are_answered_and_sorted_by_urgency(browser: Any, server: Running) -> None:
    page = open_page(browser, server)
    drop_all(page)
    badges = [text.strip() for text in page.locator("#list .badge").all_inner_texts()]
    assert badges == ["not read", "needs a person", "sick", "healthy"]
    page.get_by_role("button", name="sick.png").click()
    sync_api.expect(page.locator(".verdict.positive .verdict-word")).to_have_text("sick")
    assert page.locator(".bars .mark").count() == 1
    sync_api.expect(page.locator(".map-layer")).to_be_visible()
    page.locator("#opacity").fill("0.2")
    page.locator(".frame").first.focus()
    page.keyboard.press("+")
    style = page.locator(".map-layer").get_attribute("style")
    assert "opacity: 0.2" in style
    assert "scale(1.25)" in style
    page.get_by_role("button", name="blank.png").click()
    sync_api.expect(page.locator(".verdict.abstain")).to_contain_text("the picture is blank")
    page.get_by_role("button", name="bad.jpg").click()
    sync_api.expect(page.locator(".verdict.error")).to_contain_text("no picture that Snellen reads")
    sync_api.expect(page.locator(".detail h1")).to_have_text("<b>bad.jpg")
    with page.expect_download() as got:
        page.locator("#list-csv").click()
    text = Path(got.value.path()).read_text(encoding="utf-8")
    assert text.startswith("path,prediction,probability_healthy,probability_sick,decision,abstain,reason,error")
    assert len(text.splitlines()) == len(FILES) + 1
    page.locator(".chip", has_text="Needs a person").click()
    sync_api.expect(page.locator("#list .row")).to_have_count(1)
    assert {url.split("/")[2] for url in page.asked if not url.startswith("blob:")} == {server.base.split("/")[2]}
    assert page.failed == []
    page.close()


def test_history_jobs_and_card_are_shown(browser: Any, server: Running) -> None:
    page = open_page(browser, server)
    drop_all(page)
    page.get_by_role("link", name="History").click()
    page.locator("#history-table tbody tr").first.wait_for()
    assert "abstained" in page.locator("#history-table").inner_text()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.png", FILES[0]["buffer"])
    page.get_by_role("link", name="Jobs").click()
    page.locator("#job-files").set_input_files(
        {"name": "all.zip", "mimeType": "application/zip", "buffer": stream.getvalue()}
    )
    sync_api.expect(page.locator(".job .badge").first).to_have_text("done", timeout=20_000)
    with page.expect_download() as got:
        page.get_by_role("button", name="Results as CSV").first.click()
    assert "a.png,sick" in Path(got.value.path()).read_text(encoding="utf-8")
    page.get_by_role("link", name="Model").click()
    sync_api.expect(page.locator("#model-card")).to_contain_text("plain")
    page.goto(f"{server.base}/docs")
    sync_api.expect(page.locator("#routes")).to_contain_text("/v1/models/{name}/predict")
    assert page.failed == []
    page.close()


def test_picture_that_the_server_did_not_answer_can_be_sent_again(browser: Any, server: Running) -> None:
    page = open_page(browser, server)
    sync_api.expect(page.locator("#model-pick option")).to_have_count(1)
    page.context.set_offline(True)
    page.locator("#files").set_input_files(FILES[:1])
    sync_api.expect(page.locator("#list .badge")).to_have_text("not answered")
    sync_api.expect(page.locator(".verdict.error")).to_contain_text("The server does not answer.")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    sync_api.expect(page.locator("#list .badge")).to_have_text("sick")
    sync_api.expect(page.locator(".verdict.positive .verdict-word")).to_have_text("sick")
    page.close()


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_long_names_of_classes_and_files_stand_beside_each_other(browser: Any, tmp_path: Path, width: int) -> None:
    classes = ("central_serous_chorioretinopathy", "proliferative_diabetic_retinopathy", "normal")
    deliver_plain_bundle(tmp_path / "bundle", classes)
    with run_server(tmp_path, [f"eyes={tmp_path / 'bundle'}"]) as server:
        page = open_page(browser, server, viewport={"width": width, "height": 900})
        page.locator("#files").set_input_files({**FILES[0], "name": "a_photograph_with_a_long_name_left.png"})
        sync_api.expect(page.locator("#list .badge.waiting")).to_have_count(0)
        measure = (
            "row => ['.row-name', '.badge'].map((part) => row.querySelector(part).getBoundingClientRect().toJSON())"
        )
        name, badge = page.locator("#list .row").evaluate(measure)
        assert name["right"] <= badge["left"] or name["bottom"] <= badge["top"]
        assert name["width"] >= 140, "the end of a name tells patients apart"
        page.locator("#list .row").click()
        bars = [page.locator(".bars .track").nth(number).bounding_box() for number in range(3)]
        assert len({(bar["x"], bar["width"]) for bar in bars}) == 1, "bars must be comparable"
        assert bars[0]["width"] >= 70
        # a line holds whole words: none is higher than its parts between underscores
        assert page.locator(".bar-name").first.locator("wbr").count() == 2
        page.goto(f"{server.base}/#model")
        sync_api.expect(page.locator("#model-card")).to_contain_text("proliferative_diabetic_retinopathy")
        page.close()


def test_card_shows_signs_and_no_markdown(browser: Any, server: Running) -> None:
    page = open_page(browser, server)
    text = "A\\_b \\*c\\* &lt;d&gt; &amp;lt; **e\\_f**\n\n| g\\|h | `i\\_j` |\n| --- | --- |\n| k | l |"
    shown = page.evaluate(
        "async (text) => (await import('/page/card.js')).markdown(text).map((each) => each.textContent)", text
    )
    assert shown == ["A_b *c* <d> &lt; e_f", "g|hi\\_jkl"]
    page.close()


def test_phone_shows_list_then_picture_and_nothing_is_too_wide(browser: Any, server: Running) -> None:
    page = open_page(browser, server, viewport={"width": 390, "height": 844})
    drop_all(page)
    page.get_by_role("button", name="sick.png").click()
    sync_api.expect(page.locator(".detail .verdict")).to_be_visible()
    sync_api.expect(page.locator("#list")).to_be_hidden()
    for view in ("worklist", "jobs", "history", "model"):
        page.goto(f"{server.base}/#{view}")
        box = page.locator("body").bounding_box()
        assert box["width"] <= 390
        assert page.locator("html").evaluate("each => each.scrollWidth") <= 390, view
    page.close()


def test_key_is_asked_for_and_kept_in_the_tab_alone(browser: Any, tmp_path: Path) -> None:
    deliver_plain_bundle(tmp_path / "bundle")
    with run_server(tmp_path, [f"eyes={tmp_path / 'bundle'}"]) as server:
        _, secret = server.service.store.add_key("ward 3", "predict")
        server.service.access._asked_at = float("-inf")
        page = open_page(browser, server)
        page.locator("#key").fill("wrong")
        page.locator("#sign-in-form button[type=submit]").click()
        sync_api.expect(page.locator("#sign-in-error")).to_contain_text("not known")
        page.locator("#key").fill(secret)
        page.locator("#sign-in-form button[type=submit]").click()
        sync_api.expect(page.locator("#account")).to_have_text("Sign out ward 3")
        page.locator("#files").set_input_files(FILES[0])
        sync_api.expect(page.locator("#list .badge")).not_to_have_text("waiting")
        assert page.context.cookies() == []
        assert all(secret not in url for url in page.asked)
        page.get_by_role("link", name="History").click()
        sync_api.expect(page.locator("#history-table")).to_contain_text("the role read")
        page.close()


@pytest.mark.skipif(AXE is None, reason="needs axe-core (uv pip install axe-playwright-python)")
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_no_violation(browser: Any, server: Running, scheme: str, width: int) -> None:
    # the page's policy forbids foreign scripts, and axe is one: the test alone goes past it
    page = open_page(
        browser, server, color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True,
        reduced_motion="reduce",
    )  # fmt: skip
    drop_all(page)
    page.add_script_tag(path=str(AXE))
    told = []

    def look(where: str) -> None:
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        told.extend((where, each["id"], each["nodes"][0]["html"][:120]) for each in found["violations"])

    look("list")
    for name in ("sick.png", "blank.png", "bad.jpg"):
        page.get_by_role("button", name=name).click()
        page.locator(".verdict").wait_for()
        look(name)
        if width < 800:
            page.locator(".back").click()
    for view in ("History", "Jobs", "Model"):
        page.get_by_role("link", name=view, exact=True).click()
        page.wait_for_timeout(300)
        look(view)
    page.close()
    assert told == [], "\n".join(map(str, told))
