"""The dashboard in a real browser, on a real server."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
TOKEN = "s3cret-token"
LIVE = re.compile("^live$")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt install chromium)"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser, serve: Any) -> Iterator[Callable[..., Page]]:
    """Opens a window, closed before the servers are.

    At the end none may have logged an error or asked another host for anything.
    """
    complaints: list[str] = []
    contexts = []

    def opened(
        url: str, width: int = 1280, *, clock: bool = False, expected: str = "", **options: Any
    ) -> Page:
        """``clock``: it can be put forward; ``expected``: errors with this text are none."""
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        if clock:
            page.clock.install()

        def heard(message: Any) -> None:
            if message.type in ("error", "warning") and not (expected and expected in message.text):
                complaints.append(f"{message.type}: {message.text}")

        def asked(request: Any) -> None:
            if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
                complaints.append(f"external request: {request.url}")

        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(f"exception: {error}"))
        page.on("request", asked)
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def until(page: Page, condition: str) -> None:
    """Wait for a JavaScript condition (Playwright's own way needs ``eval``, which the pages forbid)."""
    for _ in range(150):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"this never came true: {condition}")


def drawn(page: Page, plot: str) -> None:
    page.wait_for_selector(f"#{plot} .main-svg .trace")


def test_from_the_list_to_a_trial(seed: Any, serve: Any, open_page: Any) -> None:
    seed.asha()
    url = serve(seed.database)
    page = open_page(url)
    page.get_by_role("link", name="GPT learning rate").click()
    expect(page).to_have_title("GPT learning rate · Trimtab")
    drawn(page, "curves")
    drawn(page, "best")

    page.evaluate("window.kept = true")
    page.get_by_role("columnheader", name="Latest").get_by_role("link").click()
    heading = page.get_by_role("columnheader", name="Latest")
    expect(heading).to_have_attribute("aria-sort", "ascending")
    heading.get_by_role("link").click()
    expect(heading).to_have_attribute("aria-sort", "descending")
    values = [
        float(text)
        for text in page.locator(".trials tbody td:nth-child(4)").all_inner_texts()
        if text != "–"
    ]
    assert values == sorted(values, reverse=True)
    page.locator("#trials select").select_option("failed")
    expect(page.locator(".trials tbody tr")).to_have_count(3)
    assert "sort=-value" in page.url
    assert "state=failed" in page.url
    page.go_back()
    expect(page.locator(".trials tbody tr")).to_have_count(30)
    assert page.evaluate("window.kept")  # all of it without a reload

    page.get_by_role("link", name="13", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Trial 13")
    drawn(page, "curve")
    page.get_by_label("Metric").select_option("train_loss")
    expect(page.locator("#curve .ytitle")).to_have_text("train_loss")
    page.get_by_role("link", name="Trial 14").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Trial 14")


def test_a_measurement_arrives_without_a_reload(seed: Any, serve: Any, open_page: Any) -> None:
    seed.asha()
    url = serve(seed.database)
    page = open_page(f"{url}/studies/gptstudy")
    drawn(page, "curves")
    expect(page.locator("#live-text")).to_have_text(LIVE)
    page.evaluate("window.kept = true; window.scrollTo(0, 300)")
    page.locator("#sort-4").focus()
    seed.measure("gptstudy", 29, 50, 1.234)
    expect(page.locator("tr[data-key='29'] td:nth-child(3)")).to_have_text("1.234")
    until(
        page,
        "document.getElementById('curves').data.some(t => t.y.includes(1.234) && t.x.includes(50))",
    )
    assert page.evaluate("[window.kept, window.scrollY, document.activeElement.id]") == [
        True,
        300,
        "sort-4",
    ]

    trial = open_page(f"{url}/studies/gptstudy/trials/29")
    drawn(trial, "curve")
    expect(trial.locator("#live-text")).to_have_text(LIVE)
    seed.measure("gptstudy", 29, 60, 1.111)
    expect(trial.locator("[data-live=stats]")).to_contain_text("1.111")
    until(trial, "document.getElementById('curve').data[0].y.includes(1.111)")


def test_pause_resume_extend_stop_and_cancel(seed: Any, serve: Any, open_page: Any) -> None:
    seed.asha()
    url = serve(seed.database)
    page = open_page(f"{url}/studies/gptstudy")
    badge = page.locator("[data-live=badge]")
    page.get_by_role("button", name="Pause").click()
    expect(badge).to_have_text("paused")
    page.get_by_role("button", name="Resume").click()
    expect(badge).to_have_text("running")

    page.get_by_role("button", name="Extend").click()
    page.get_by_label("Steps in all").fill("30000")
    page.get_by_role("button", name="Extend", exact=True).click()
    expect(page.locator("[data-live=budget]")).to_contain_text("of 30,000")

    page.get_by_role("button", name="Stop trial 4", exact=True).click()
    page.locator("#confirm-yes").click()
    expect(page.locator("tr[data-key='4'] td").first).to_contain_text("stopped")

    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Go back").click()
    expect(badge).to_have_text("running")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the study").click()
    expect(badge).to_have_text("cancelled")


def test_the_theme_is_chosen_and_kept(seed: Any, serve: Any, open_page: Any) -> None:
    seed.asha(trials=5)
    url = serve(seed.database)
    page = open_page(f"{url}/studies/gptstudy", color_scheme="light")
    drawn(page, "curves")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.get_by_role("button", name="Dark theme").click()
    assert page.evaluate(colour) != light
    dark = page.evaluate(colour)
    page.reload()
    assert page.evaluate(colour) == dark
    page.get_by_role("button", name="Light theme").click()
    assert page.evaluate(colour) == light

    system = open_page(url, color_scheme="dark")
    expect(system.get_by_role("button", name="Light theme")).to_be_visible()
    system.emulate_media(color_scheme="light")
    expect(system.get_by_role("button", name="Dark theme")).to_be_visible()


def test_what_was_not_there_at_first_appears(seed: Any, serve: Any, open_page: Any) -> None:
    url = serve(seed.database)
    page = open_page(url)
    expect(page.get_by_role("heading", name="No studies yet")).to_be_visible()
    expect(page.locator("#live-text")).to_have_text(LIVE)
    seed.asha(trials=3)
    trial = open_page(f"{url}/studies/gptstudy/trials/3")
    expect(trial.locator("#live-text")).to_have_text(LIVE)
    expect(trial.get_by_text("As a table")).to_be_hidden()
    seed.measure("gptstudy", 3, 10, 1.5)
    expect(page.get_by_role("link", name="GPT learning rate")).to_be_visible()
    expect(page.get_by_role("search")).to_be_visible()
    expect(trial.get_by_text("As a table")).to_be_visible()


def test_a_deleted_study_vanishes(seed: Any, serve: Any, open_page: Any, make_spec: Any) -> None:
    seed.study("kept", make_spec("kept"))
    seed.study("gone", make_spec("gone"), state="completed")
    url = serve(seed.database)
    page = open_page(url, clock=True)
    expect(page.locator("#live-text")).to_have_text(LIVE)
    expect(page.get_by_role("link", name="gone")).to_be_visible()
    assert httpx.delete(f"{url}/v1/studies/gone").status_code == 204
    page.clock.fast_forward(20_000)
    expect(page.get_by_role("link", name="gone")).to_be_hidden()
    expect(page.get_by_role("link", name="kept")).to_be_visible()


def test_the_page_of_a_deleted_study_says_so(seed: Any, serve: Any, open_page: Any, make_spec: Any) -> None:
    seed.study("gone", make_spec("gone"), state="completed")
    url = serve(seed.database)
    page = open_page(f"{url}/studies/gone", clock=True, expected="404")
    expect(page.locator("#live-text")).to_have_text(LIVE)
    assert httpx.delete(f"{url}/v1/studies/gone").status_code == 204
    page.clock.fast_forward(20_000)
    expect(page.locator(".card")).to_contain_text("404")


def test_the_keyboard_alone_is_enough(seed: Any, serve: Any, open_page: Any) -> None:
    seed.asha(trials=6)
    url = serve(seed.database)
    page = open_page(url)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "GPT learning rate":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url("**/studies/gptstudy")
    page.locator("#sort-5").focus()
    page.keyboard.press("Enter")
    expect(page.locator("th[aria-sort]")).to_contain_text("Steps")
    expect(page.locator("#sort-5")).to_be_focused()
    page.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Go back")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("[data-live=badge]")).to_have_text("running")


def test_logging_in_and_out(seed: Any, serve: Any, open_page: Any) -> None:
    seed.asha(trials=5)
    url = serve(seed.database, token=TOKEN)
    page = open_page(f"{url}/studies/gptstudy")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/studies/gptstudy")
    drawn(page, "curves")
    expect(page.locator("#live-text")).to_have_text(LIVE)
    assert page.evaluate("document.cookie") == ""  # out of the reach of scripts
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_whoever_is_no_longer_known_logs_in_again(seed: Any, serve: Any, open_page: Any) -> None:
    seed.asha(trials=3)
    url = serve(seed.database, token=TOKEN)
    page = open_page(f"{url}/", expected="401")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#live-text")).to_have_text(LIVE)
    page.context.clear_cookies()
    # The page goes to the browser's cache and comes back, which opens the event stream anew.
    page.evaluate(
        "dispatchEvent(new Event('pagehide'));"
        "dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))"
    )
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_what_matters_is_computed_when_it_comes_into_view(seed: Any, serve: Any, open_page: Any) -> None:
    seed.asha()
    url = serve(seed.database)
    page = open_page(f"{url}/studies/gptstudy", width=390)
    expect(page.locator("#importances")).to_contain_text("comes into view")
    page.locator("#importances").scroll_into_view_if_needed()
    # A process is started that imports torch, Optuna and scikit-learn.
    expect(page.locator("#importances tbody tr")).to_have_count(4, timeout=60_000)
    expect(page.locator("#importances tbody tr").first).to_contain_text("learning_rate")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate(SANITY) == []


@pytest.mark.parametrize("width", [360, 390])
def test_no_page_is_wider_than_a_phone(seed: Any, serve: Any, open_page: Any, width: int) -> None:
    seed.asha()
    url = serve(seed.database)
    page = open_page(url, width=width)
    for path in ("/", "/studies/gptstudy", "/studies/gptstudy/trials/13"):
        page.goto(url + path)
        if path != "/":
            drawn(page, "curve" if "trials" in path else "curves")
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_without_javascript_the_pages_are_complete(seed: Any, serve: Any, open_page: Any) -> None:
    seed.asha()
    url = serve(seed.database)
    page = open_page(f"{url}/studies/gptstudy", java_script_enabled=False)
    expect(page.locator(".trials tbody tr")).to_have_count(30)
    expect(page.get_by_text("The plot needs JavaScript")).to_be_visible()
    expect(page.get_by_role("button", name="Pause")).to_be_hidden()
    page.get_by_role("columnheader", name="State").get_by_role("link").click()
    expect(page.locator("th[aria-sort]")).to_contain_text("State")


SANITY = (Path(__file__).parent / "sanity.js").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_sanity(seed: Any, serve: Any, open_page: Any, scheme: str, make_spec: Any) -> None:
    seed.asha()
    seed.study("stuck", make_spec("stuck"), decide_error="all values are equal")
    url = serve(seed.database)
    locked = serve(seed.database, token=TOKEN)
    pages = ("/", "/studies/gptstudy", "/studies/stuck", "/studies/gptstudy/trials/13")
    page = open_page(f"{locked}/login", color_scheme=scheme)
    assert page.evaluate(SANITY) == []
    for path in pages:
        page.goto(url + path)
        assert page.evaluate(SANITY) == [], path


@pytest.mark.slow
def test_two_thousand_trials_stay_quick(seed: Any, serve: Any, open_page: Any) -> None:
    seed.asha(trials=2_000)
    url = serve(seed.database)
    page = open_page(f"{url}/studies/gptstudy")
    drawn(page, "curves")
    assert page.evaluate("document.getElementById('curves').data.length") < 25
    milliseconds = page.evaluate(
        """async () => {
          const plot = document.getElementById('curves');
          const began = performance.now();
          await Plotly.react(plot, plot.data.map((trace) => ({ ...trace })), { ...plot.layout });
          return performance.now() - began;
        }"""
    )
    assert milliseconds < 2_000


GOALS: dict[str, Any] = {
    "metric": {"name": "loss"},
    "objectives": [{"name": "speed", "direction": "maximize"}],
    "limits": [{"metric": "ms", "at_most": 20}],
    "trainer": {"name": "external"},
    "strategy": {"name": "random"},
    "space": {"lr": {"type": "float", "low": 0.0, "high": 1.0}},
    "budget": {"trials": 100},
}


def test_a_front_grows_while_one_looks(seed: Any, make_spec: Any, serve: Any, open_page: Any) -> None:
    seed.study("goals", make_spec("Two goals", **GOALS))
    url = serve(seed.database)

    def measure(*ends: tuple[float, float, float]) -> None:
        metrics = [dict(zip(("loss", "speed", "ms"), end, strict=True)) for end in ends]
        trials = [
            {"params": {"lr": 0.5}, "curve": [{"step": 810, "metrics": measured}]} for measured in metrics
        ]
        assert httpx.post(f"{url}/v1/studies/goals/import", json={"trials": trials}).status_code == 201

    measure((1.0, 1.0, 5), (2.0, 2.0, 5), (2.0, 1.0, 5), (9.0, 9.0, 31))
    page = open_page(f"{url}/studies/goals", 390)
    drawn(page, "front")
    names = "document.getElementById('front').data.map(t => t.name).join()"
    assert page.evaluate(names) == "dominated (1),over a limit (1),Pareto front (2)"
    expect(page.locator("[data-live='reason']")).to_contain_text("speed, higher is better · ms ≤ 20")
    expect(page.locator("tr[data-key='4'] .over")).to_have_attribute("title", "ms 31 > 20")
    expect(page.locator(".trials .star")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

    expect(page.locator("#live-text")).to_have_text(LIVE)
    measure((0.5, 3.0, 5))
    until(page, f"{names}.includes('Pareto front (1)')")
    expect(page.locator("#front-text")).to_contain_text("1 trial that no other dominates")
    expect(page.locator(".trials .star")).to_have_count(1)
    page.get_by_role("link", name="4", exact=True).click()
    expect(page.locator("[data-live='over']")).to_have_text(re.compile("Over limit: ms 31 > 20"))
    rows = httpx.get(f"{url}/studies/goals/trials.csv").text.splitlines()
    assert "outcomes.speed,outcomes.ms,over_limits" in rows[0]
    assert "9.0,31.0,ms 31 > 20" in rows[4]


def workload(name: str) -> dict[str, Any]:
    target = {"metric": "loss", "at_most": 1.5}
    return {"name": name, "trainer": "synthetic", "steps": 100, "target": target}


SUITE = {
    "trainer": {"name": "suite", "workloads": [workload("digits"), workload("table")]},
    "metric": {"name": "score"},
    "space": {"lr": {"type": "float", "low": 1e-4, "high": 1.0, "log": True}},
    "budget": {"trials": 100},
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_profile_appears_with_the_first_target(
    seed: Any, make_spec: Any, serve: Any, open_page: Any, scheme: str
) -> None:
    seed.study("suite", make_spec("Suite", **SUITE))
    url = serve(seed.database)

    def measure(score: float, **times: float) -> None:
        metrics = {"score": score, **{f"{name}/steps_to_target": time for name, time in times.items()}}
        trials = [{"params": {"lr": 0.5}, "curve": [{"step": 810, "metrics": metrics}]}]
        assert httpx.post(f"{url}/v1/studies/suite/import", json={"trials": trials}).status_code == 201

    measure(1.3)
    page = open_page(f"{url}/studies/suite", 390, color_scheme=scheme)
    expect(page.locator("#profile")).to_contain_text("no target reached yet")
    expect(page.locator("#profile-text")).to_contain_text(
        "No trial has reached a target yet (1 were measured)"
    )
    expect(page.locator("#live-text")).to_have_text(LIVE)
    measure(0.4, digits=20, table=60)
    measure(0.7, digits=10)
    drawn(page, "profile")
    names = "document.getElementById('profile').data.map(t => t.name).join()"
    until(page, f"{names} === 'trial 2 (0.83),trial 3 (0.50)'")
    expect(page.locator("#profile-text")).to_contain_text("first after 60 steps by trial 2")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(SANITY) == []
    page.get_by_text("As a table").nth(1).click()
    rows = page.get_by_role("region", name="Times to the targets").locator("tbody tr")
    expect(rows.first).to_contain_text("0.833")  # the table comes by itself, after the picture
    assert [row.split() for row in rows.all_inner_texts()] == [
        ["2", "0.833", "20", "60"],
        ["3", "0.500", "10", "–"],
        ["1", "0.000", "–", "–"],
    ]


def test_a_found_schedule_is_drawn_with_what_else_was_tried(
    seed: Any, make_spec: Any, serve: Any, open_page: Any
) -> None:
    space = {"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}}
    strategy = {"name": "lr-schedule", "options": {"parameter": "learning_rate"}}
    seed.study("plan", make_spec("Plan", strategy=strategy, space=space))
    url = serve(seed.database)
    page = open_page(f"{url}/studies/plan")
    expect(page.locator("#best")).to_contain_text("nothing measured yet")
    expect(page.locator("#schedule-panel")).to_be_hidden()
    expect(page.locator("#live-text")).to_have_text(LIVE)
    seed.line("plan")
    drawn(page, "schedule")
    names = "document.getElementById('schedule').data.map(t => t.name).join()"
    assert page.evaluate(names) == "tried (2 trials),found: trial 3"
    expect(page.locator("#schedule-text")).to_contain_text(
        "Trained by the best trial, 3, and those that it was forked from (1)"
    )
    expect(page.locator(".stats")).to_contain_text("810")
    expect(page.locator(".stats")).to_contain_text("670 on the search, 1,480 in all")
    expect(page.locator(".stats")).not_to_contain_text("Saved")
    assert page.evaluate(SANITY) == []
