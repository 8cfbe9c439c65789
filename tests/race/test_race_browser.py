"""The page in Chromium: it starts, stops, refuses, replays, fits a phone, and axe finds nothing to object to."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")
sync_api = pytest.importorskip("playwright.sync_api")

from paradigms.cli.race_job import choices, contest  # noqa: E402
from paradigms.race.document import recorded, standalone  # noqa: E402
from paradigms.race.serve import address, bound  # noqa: E402
from paradigms.race.server import application  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(os.environ.get("AXE", "node_modules/axe-core/axe.min.js"))
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: chromium)")]
QUERY = "model=digits&rule=ddim&steps=30&window=8&seed=4&class=7"
OVER = "#verdict:not([hidden])"


@pytest.fixture(scope="module")
def home() -> Iterator[str]:
    at = bound(0)
    server = uvicorn.Server(
        uvicorn.Config(application(contest, choices()), log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [at]})
    thread.start()
    yield address(at)
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM)
        yield found
        found.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    found = browser.new_page()
    errors: list[str] = []
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield found
    found.close()
    assert not [e for e in errors if "422" not in e]  # a refusal is told in the page


def raced(page: Any, home: str, query: str = QUERY) -> None:
    """A race from start to end."""
    page.goto(f"{home}?{query}")
    page.select_option("#speed", "1")  # not slowed down to be watched
    page.click("#start")
    page.wait_for_selector(OVER, timeout=120_000)


def test_a_race_ends_with_the_same_picture_on_both_sides(page: Any, home: str) -> None:
    raced(page, home)
    assert page.inner_text("#same") == "Same picture."
    assert page.inner_text("#title") == "Digits, DDIM of 30 steps"
    left, right = (page.evaluate(f"() => document.getElementById('picture-{run}').toDataURL()") for run in RUNS)
    assert left == right and len(left) > 2000  # within a level, which scaling hides at this size


RUNS = ("sequential", "parallel")


def test_the_controls_are_in_the_address(page: Any, home: str) -> None:
    page.goto(home)
    page.select_option("#model", "digits")
    page.fill("#steps", "40")
    page.fill("#window", "12")
    page.reload()
    assert "model=digits" in page.url and "steps=40" in page.url
    assert (page.input_value("#model"), page.input_value("#steps"), page.input_value("#window")) == (
        "digits",
        "40",
        "12",
    )


def test_a_bad_value_is_refused_in_the_page(page: Any, home: str) -> None:
    page.goto(f"{home}?{QUERY}")
    page.select_option("#speed", "1")
    page.fill("#class", "12")
    page.press("#class", "Enter")
    page.wait_for_selector("#class[aria-invalid=true]")
    assert page.inner_text("#refusal") == "--class is 12; type a whole number from 0 to 9"
    assert page.evaluate("() => document.activeElement.id") == "class"
    page.fill("#class", "7")
    page.press("#class", "Enter")
    page.wait_for_selector(OVER, timeout=120_000)
    assert page.inner_text("#refusal") == ""


def test_it_is_driven_by_keys_alone(page: Any, home: str) -> None:
    page.goto(f"{home}?{QUERY}")
    page.select_option("#speed", "1")
    page.focus("#seed")
    page.keyboard.press("Enter")
    page.wait_for_selector(OVER, timeout=120_000)
    page.focus("#play")
    page.select_option("#speed", "auto")  # so that the replay lasts until the next key
    page.keyboard.press("Enter")
    page.wait_for_selector(OVER, state="hidden")
    page.focus("#time")
    page.keyboard.press("End")
    page.wait_for_selector(OVER)


def test_stop_ends_a_race(page: Any, home: str) -> None:
    page.goto(f"{home}?model=digits&rule=ddpm&steps=1000&window=2")
    page.click("#start")
    page.wait_for_function("() => document.getElementById('title').textContent !== 'Ready'")
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.getElementById('status').textContent === 'Stopped.'")
    raced(page, home)  # the next one need not wait for it


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_it_fits(page: Any, home: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    raced(page, home)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width


@pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core: npm install --no-save axe-core; AXE=path of axe.min.js")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_axe_finds_nothing(browser: Any, home: str, theme: str, width: int) -> None:
    context = browser.new_context(bypass_csp=True, color_scheme=theme, viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto(f"{home}?{QUERY}")
    page.select_option("#speed", "1")
    page.add_script_tag(path=str(AXE))
    for _ in range(2):
        found = page.evaluate("() => axe.run()")["violations"]
        assert not [(v["id"], [n["html"] for n in v["nodes"]]) for v in found]
        page.click("#start")
        page.wait_for_selector(OVER, timeout=120_000)
    context.close()


def test_the_file_of_recorded_races_needs_no_server(page: Any, tmp_path: Path) -> None:
    query = dict(part.split("=") for part in QUERY.split("&"))
    races = [recorded(contest(query), "digits", query, 1, lambda _: None)]
    (tmp_path / "race.html").write_text(standalone(races, choices(), "a test"), encoding="utf-8")
    page.goto(f"file://{tmp_path}/race.html")
    page.select_option("#speed", "1")
    page.click("#start")
    page.wait_for_selector(OVER, timeout=60_000)
    assert page.inner_text("#same") == "Same picture."
