"""The pages of fits, in a real browser on a real server."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from service.api import now
from service.loops.fitting import Fit
from tests.service.planted import COLUMNS, QUICK, runs
from tests.service.planted_mixture import MIXTURE_COLUMNS, mixture_runs
from tests.service.web.test_web_browser import chromium, open_page, pytestmark, until  # noqa: F401


def compute(database: Any, url: str, fit: str) -> None:
    loop = Fit(database)
    deadline = time.monotonic() + 120
    with httpx.Client() as http:
        while http.get(f"{url}/v1/fits/{fit}").json()["state"] in ("queued", "running"):
            assert time.monotonic() < deadline
            loop.tick(now())
            time.sleep(0.05)
    loop.close()


@pytest.mark.timeout(240)
def test_a_fit_from_its_making_to_its_pictures(seed: Any, serve: Any, open_page: Any) -> None:  # noqa: F811
    url = serve(seed.database)
    page = open_page(f"{url}/laws")
    expect(page.get_by_role("heading", name="No fits yet")).to_be_visible()
    request = {"name": "small <runs>", "table": runs(), "columns": COLUMNS, "options": QUICK}
    fit = httpx.post(f"{url}/v1/fits", json=request).json()["id"]
    page.reload()
    page.get_by_role("link", name="small <runs>").click()
    expect(page.locator("#fit-state")).to_have_text("queued")
    compute(seed.database, url, fit)

    # The page notices by itself.
    expect(page.locator("#figure-lr-n .main-svg").first).to_be_visible(timeout=30_000)
    assert page.locator(".law-figures figure").count() == 14
    page.locator("#figure-cell-4").scroll_into_view_if_needed()
    page.wait_for_selector("#figure-cell-4 .contour")
    expect(page.locator(".law-summary")).to_contain_text(re.compile(r"N\^-0\.\d+"))

    page.get_by_label("Parameters N").fill("1e9")
    page.get_by_label("Tokens D").fill("twenty billion")
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("alert").first).to_contain_text("D is 'twenty billion'")
    page.get_by_label("Tokens D").fill("2e10")
    page.get_by_label("Your learning rate").fill("3e-3")
    page.get_by_label("Your batch, in tokens").fill("5e5")
    page.get_by_role("button", name="Predict").click()
    answer = page.locator("#prediction")
    expect(answer).to_contain_text("At N 1B, D 20B")
    expect(answer).to_contain_text("Yours would cost")
    expect(answer.get_by_text("outside hull")).to_be_visible()
    until(page, "document.getElementById('figure-lr-n')?.data?.some(trace => trace.name === 'target')")
    page.set_viewport_size({"width": 390, "height": 800})
    until(page, "document.documentElement.scrollWidth <= 390")

    before = page.evaluate("document.getElementById('figure-lr-n').layout.font.color")
    page.get_by_role("button", name=re.compile("theme")).click()
    until(page, f"document.getElementById('figure-lr-n').layout.font.color !== '{before}'")


def test_a_number_that_the_runs_cannot_carry_is_not_shown(seed: Any, serve: Any, open_page: Any) -> None:  # noqa: F811
    url = serve(seed.database)
    table = runs(sizes=2)  # two values of N identify no exponent
    request = {"name": "two sizes", "table": table, "columns": COLUMNS, "options": QUICK}
    fit = httpx.post(f"{url}/v1/fits", json=request).json()["id"]
    compute(seed.database, url, fit)
    answer = httpx.get(f"{url}/v1/fits/{fit}/prediction?n=1e9&d=2e10").json()
    assert not answer["confident"]
    page = open_page(f"{url}/laws/{fit}?n=1e9&d=2e10")
    expect(page.locator("#prediction")).to_contain_text("cannot carry a number")
    expect(page.locator("#prediction .answers .figure").first).to_have_text("unsure")
    expect(page.locator(".cautions .grave").first).to_contain_text("few values")


def test_a_law_of_the_loss_has_a_page_and_pictures(seed: Any, serve: Any, open_page: Any) -> None:  # noqa: F811
    url = serve(seed.database)
    request = {"name": "loss", "family": "loss", "table": runs(), "columns": COLUMNS, "options": QUICK}
    fit = httpx.post(f"{url}/v1/fits", json=request).json()["id"]
    compute(seed.database, url, fit)
    page = open_page(f"{url}/laws/{fit}?n=1e9&d=2e10")
    expect(page.locator("#prediction")).to_contain_text("Best N for this compute")
    for figure in ("loss", "best-size", "residuals"):
        page.locator(f"#figure-{figure}").scroll_into_view_if_needed()
        page.wait_for_selector(f"#figure-{figure} .main-svg .trace")
    refused = httpx.get(f"{url}/v1/fits/{fit}/prediction?n=1e9&d=2e10&lr=0.1").json()
    assert refused["errors"][0]["pointer"] == "/query/lr"
    plan = httpx.post(f"{url}/v1/fits/{fit}/plan", json={"flops": 1e20, "n": 1e9, "d": 2e10}, timeout=60)
    assert plan.json()["loss_then"]["high"] < plan.json()["loss_now"]["high"]


def test_pages_of_fits_that_are_not_there_or_have_failed(seed: Any, serve: Any) -> None:
    url = serve(seed.database)
    assert httpx.get(f"{url}/laws/nothing", headers={"Accept": "text/html"}).status_code == 404
    request = {"name": "too few", "table": runs(runs_per_cell=2, diverged=0), "columns": COLUMNS}
    fit = httpx.post(f"{url}/v1/fits", json=request).json()["id"]
    compute(seed.database, url, fit)
    assert "The fit has failed." in httpx.get(f"{url}/laws/{fit}").text


def test_a_law_of_a_mixture_has_a_page_and_pictures(seed: Any, serve: Any, open_page: Any) -> None:  # noqa: F811
    url = serve(seed.database)
    request = {
        "name": "mixture",
        "family": "mixture",
        "table": mixture_runs(),
        "columns": MIXTURE_COLUMNS,
        "options": {**QUICK, "form": "whole"},
    }
    fit = httpx.post(f"{url}/v1/fits", json=request).json()["id"]
    compute(seed.database, url, fit)
    page = open_page(f"{url}/laws/{fit}?n=4e9&d=1e11")
    expect(page.locator("#prediction")).to_contain_text("Best share")
    for figure in ("share", "best-share", "residuals"):
        page.locator(f"#figure-{figure}").scroll_into_view_if_needed()
        page.wait_for_selector(f"#figure-{figure} .main-svg .trace")
    target = page.evaluate("document.getElementById('figure-best-share').data.at(-1)")
    assert target["name"] == "target"
    assert 0.3 < target["y"][0] < 0.7
    refused = httpx.post(f"{url}/v1/fits/{fit}/plan", json={"flops": 1e20, "n": 4e9, "d": 1e11}).json()
    assert "not for this one" in refused["errors"][0]["message"]
