"""The pages as HTML: what they say without a browser."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI
from sqlalchemy import select

from service.app import create_app
from service.db import studies
from service.db.models import TrialRow
from service.loops.suggest import Suggest
from service.settings import Settings
from service.web import format
from service.web.login import COOKIE
from service.web.rendering import CONTENT_SECURITY_POLICY
from tests.service.conftest import study_spec
from tests.service.fake_worker import START, Inline, SeededWorker, drive
from trimtab import figures
from trimtab.wire.study import StudySpec

HTML = {"Accept": "text/html"}
TOKEN = "s3cret-token"


class Elements(HTMLParser):
    """All start tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


class InProcess(httpx.BaseTransport):
    """Calls an application without a server."""

    def __init__(self, app: FastAPI) -> None:
        self._application = httpx.ASGITransport(app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def call() -> httpx.Response:
            answer = await self._application.handle_async_request(request)
            content = b"".join([part async for part in answer.aiter_raw()])
            return httpx.Response(answer.status_code, headers=answer.headers, content=content)

        return asyncio.run(call())


@pytest.fixture
def client(seed: Any, tmp_path: Any) -> Callable[..., httpx.Client]:
    """A client of the application on the seed's database."""

    def make(token: str | None = None) -> httpx.Client:
        settings = Settings(home=tmp_path, database_url="", token=token)
        app = create_app(settings, seed.database, clock=lambda: seed.now, new_key=lambda: "key")
        return httpx.Client(transport=InProcess(app), base_url="http://127.0.0.1", headers=HTML)

    return make


def page(answer: httpx.Response, status: int = 200) -> Elements:
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    return Elements(answer.text)


def test_an_empty_server_tells_how_to_begin(client: Any) -> None:
    shown = page(client().get("/"))
    assert "trimtab submit examples/gpt-lr.yaml" in shown.text
    assert not shown.all("table")


def test_names_are_escaped_everywhere(client: Any, seed: Any, make_spec: Any) -> None:
    evil = '<script>alert("x")</script>'
    seed.study("evil", make_spec(evil, tags=[evil], notes=evil), state_reason=evil, decide_error=evil)
    for path in ("/", "/studies/evil", f"/?name={evil}", f"/?tag={evil}"):
        answer = client().get(path)
        assert "<script>alert" not in answer.text
        assert evil in page(answer).text


def test_no_page_has_an_inline_script_and_all_forbid_them(client: Any, seed: Any) -> None:
    seed.asha()
    for path in ("/", "/studies/gptstudy", "/studies/gptstudy/trials/13", "/studies/none"):
        answer = client().get(path)
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        shown = Elements(answer.text)
        assert all(script.get("src") for script in shown.all("script"))
        assert not [name for _, attributes in shown.tags for name in attributes if name.startswith("on")]
    assert "'unsafe-eval'" not in CONTENT_SECURITY_POLICY
    assert "script-src 'self';" in CONTENT_SECURITY_POLICY


def test_a_study_without_trials(client: Any, seed: Any, make_spec: Any) -> None:
    seed.study("empty", make_spec())
    shown = page(client().get("/studies/empty"))
    assert "nothing measured yet" in shown.text
    assert "No trials yet" in shown.text
    assert "Nothing decided yet" in shown.text


def test_why_search_could_not_decide_is_shown(client: Any, seed: Any, make_spec: Any) -> None:
    seed.study("stuck", make_spec(), decide_error="all values are equal")
    assert (
        "The strategy could not decide. all values are equal" in page(client().get("/studies/stuck")).text
    )


def test_why_a_study_failed_stands_out(client: Any, seed: Any, make_spec: Any) -> None:
    seed.study("one", make_spec(), state="failed", state_reason="every trial crashed: no module torch")
    text = Elements(client().get("/studies/one", headers=HTML).text).text
    assert "The study failed. every trial crashed: no module torch" in text
    assert text.count("every trial crashed") == 1


def test_what_matters_has_a_page_of_its_own(client: Any, seed: Any) -> None:
    seed.asha()
    shown = page(client().get("/studies/gptstudy/importances"))
    headings = [attributes.get("scope") for attributes in shown.all("th")]
    assert headings.count("col") == 4
    assert headings.count("row") == 4
    assert "learning_rate" in shown.text
    assert "whose end a model of all curves predicts" in shown.text
    assert "2 that diverged or ran out of memory" not in shown.text  # three did: one ran out of memory
    assert "3 that diverged or ran out of memory" in shown.text
    assert page(client().get("/studies/none/importances"), 404)


def test_what_is_pruned_is_shown_with_its_reasons(client: Any, seed: Any, make_spec: Any) -> None:
    seed.study("free", make_spec(prune=True))
    assert "Parts of the space may be left out; none are yet" in page(client().get("/studies/free")).text
    pruned = {
        "results": 40,
        "frozen": {"warmup": 0.1},
        "ranges": {"learning_rate": [0.001, 0.01]},
        "reasons": {"warmup": "frozen: 0.1%", "learning_rate": "narrowed to 33%", "width": "left as it is"},
    }
    seed.study("less", make_spec(prune=True), pruning=pruned)
    text = page(client().get("/studies/less")).text
    assert "1 frozen, 1 narrowed" in text
    assert "warmup 0.1: frozen: 0.1%" in text
    assert "learning_rate 0.001 to 0.01: narrowed to 33%" in text
    assert "width left as it is" in text


def test_early_stops_are_seen_again_where_rules_stop_trials(client: Any, seed: Any) -> None:
    seed.asha("ruled", trials=90, stopping=[{"rule": "median"}])
    seed.asha("free")
    page = client().get("/studies/ruled").text
    panel = page[page.index('id="stops-title"') : page.index('id="importances-title"')]
    saved = 810 * panel.count("<tr data-key=") - sum(
        int(step) for step in re.findall(r'</th><td class="num">(\d+)</td>', panel)
    )
    assert panel.count("<tr data-key=") >= 3
    assert f"<strong>{saved:,}</strong> steps" in panel
    assert "times as much training" in panel
    assert "Expected number of best trials lost" in panel
    assert re.search(r'<td class="num">\d\.\d+ to \d\.\d+</td>', panel)
    assert panel.count("below the median at step 30") == panel.count("<tr data-key=")
    assert 'id="stops-title"' not in client().get("/studies/free").text


def test_what_is_missing_to_tell_what_matters(client: Any, seed: Any, make_spec: Any) -> None:
    seed.study("empty", make_spec())
    assert "so far no trial has one" in page(client().get("/studies/empty/importances")).text


def test_an_error_page_names_what_is_wrong(client: Any, seed: Any, make_spec: Any) -> None:
    seed.study("one", make_spec())
    text = Elements(client().get("/studies/one/trials/abc", headers=HTML).text).text
    assert "/path/number input should be a valid integer" in text


def test_a_failed_trial_shows_kind_message_and_output(client: Any, seed: Any) -> None:
    seed.asha()
    answer = client().get("/studies/gptstudy/trials/13")
    shown = page(answer)
    assert "Failed: out of memory" in shown.text
    assert "tried to allocate 2 GiB" in shown.text
    assert 'RuntimeError: <lambda> & "friends" ran out of memory' in shown.text
    assert "<lambda>" not in answer.text
    links = {link.get("rel"): link["href"] for link in shown.all("a") if link.get("rel")}
    assert links == {"prev": "/studies/gptstudy/trials/12", "next": "/studies/gptstudy/trials/14"}


def test_forks_are_shown_with_parent_children_and_schedule(client: Any, seed: Any) -> None:
    seed.asha()
    with seed.database.write() as session:
        child = session.scalars(select(TrialRow).where(TrialRow.number == 8)).one()
        child.parent, child.forked_at, child.seed = 4, 10, 77
        child.schedule = [[0, 0.5], [30, 0.0125]]
    shown = page(client().get("/studies/gptstudy/trials/8"))
    assert "forked from trial 4 at 10" in shown.text
    assert "Learning rate by a schedule of 2 points" in shown.text
    assert "30 0.0125" in shown.text
    assert "Trained with a seed of its own, 77." in shown.text
    assert "/studies/gptstudy/trials/4" in [link["href"] for link in shown.all("a")]
    parent = page(client().get("/studies/gptstudy/trials/4"))
    assert "Forks of it" in parent.text
    assert "/studies/gptstudy/trials/8" in [link["href"] for link in parent.all("a")]
    assert "Forks of it" not in page(client().get("/studies/gptstudy/trials/9")).text


def test_values_that_are_not_finite(client: Any, seed: Any) -> None:
    seed.asha()
    shown = page(client().get("/studies/gptstudy/trials/9"))
    assert "Failed: diverged" in shown.text
    assert "60 NaN NaN" in shown.text  # the row of the last measurement


def test_the_table_of_trials_sorts_filters_and_pages(client: Any, seed: Any) -> None:
    seed.asha(trials=60)
    browser = client()

    def numbers(path: str) -> tuple[list[int], Elements]:
        shown = page(browser.get(path))
        return [int(row["data-key"] or 0) for row in shown.all("tr") if "data-key" in row], shown

    newest, shown = numbers("/studies/gptstudy?sort=-number")
    assert newest == list(range(60, 10, -1))
    assert [cell.get("aria-sort") for cell in shown.all("th") if cell.get("aria-sort")] == ["descending"]
    (following,) = [link["href"] for link in shown.all("a") if link.get("rel") == "next"]
    assert following is not None
    rest, _ = numbers(following)
    assert rest == list(range(10, 0, -1))
    failed, _ = numbers("/studies/gptstudy?state=failed&sort=number")
    assert failed == [9, 13, 21]
    best, shown = numbers("/studies/gptstudy")
    assert ("tr", {"data-key": str(best[0]), "class": "best"}) in shown.tags
    assert numbers("/studies/gptstudy?sort=nonsense&state=nonsense")[0] == best


def test_studies_are_filtered_and_paged(client: Any, seed: Any, make_spec: Any) -> None:
    for number in range(35):
        seed.study(
            f"s{number}",
            make_spec(f"study {number}", tags=["even" if number % 2 == 0 else "odd"]),
            state="completed" if number < 3 else "running",
        )
    browser = client()

    def keys(path: str) -> list[str | None]:
        return [row["data-key"] for row in page(browser.get(path)).all("tr") if "data-key" in row]

    assert keys("/?state=completed") == ["s2", "s1", "s0"]
    assert keys("/?state=completed&tag=even") == ["s2", "s0"]
    assert keys("/?name=STUDY 34") == ["s34"]
    assert "No study matches" in page(browser.get("/?name=nothing")).text
    first = page(browser.get("/?tag="))
    (following,) = [link["href"] for link in first.all("a") if link.get("rel") == "next"]
    assert keys(str(following)) == ["s4", "s3", "s2", "s1", "s0"]


def test_the_study_file_reads_back_as_the_same_study(client: Any, seed: Any, make_spec: Any) -> None:
    seed.study("one", make_spec())
    answer = client().get("/studies/one/study.yaml")
    assert StudySpec.model_validate(yaml.safe_load(answer.text)) == make_spec()


def test_trials_as_csv(client: Any, seed: Any) -> None:
    seed.asha()
    rows = list(csv.DictReader(io.StringIO(client().get("/studies/gptstudy/trials.csv").text)))
    assert [int(row["number"]) for row in rows] == list(range(1, 31))
    assert rows[12]["failure_kind"] == "out_of_memory"
    assert float(rows[0]["learning_rate"]) > 0


def test_a_formula_in_a_csv_is_text(client: Any, seed: Any) -> None:
    seed.asha(trials=4)
    with seed.database.write() as session:
        session.scalars(select(TrialRow).where(TrialRow.number == 2)).one().label = "=1+1"
    rows = list(csv.DictReader(io.StringIO(client().get("/studies/gptstudy/trials.csv").text)))
    assert rows[1]["label"] == "'=1+1"


def test_errors_are_pages_for_browsers_and_problems_for_programs(client: Any) -> None:
    browser = client()
    assert "There is no study" in page(browser.get("/studies/none"), 404).text
    assert "There is nothing" in page(browser.get("/nowhere"), 404).text
    page(browser.get("/studies/none/trials/x"), 422)
    page(browser.get("/?cursor=broken"), 422)
    for path in ("/studies/none", "/nowhere"):
        answer = browser.get(path, headers={"Accept": "application/json"})
        assert answer.headers["content-type"] == "application/problem+json"
    assert browser.get("/v1/studies/none").headers["content-type"] == "application/problem+json"


def test_static_files_are_kept_and_asked_for_again(client: Any, seed: Any) -> None:
    browser = client()
    scripts = [script["src"] for script in page(browser.get("/")).all("script")]
    answer = browser.get(scripts[0])
    assert "immutable" in answer.headers["cache-control"]
    assert browser.get(scripts[0], headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert browser.get("/static/app.css?v=old").headers["cache-control"] == "no-cache"
    assert browser.get("/static/..%2froutes.py").status_code == 404
    plotly = browser.get("/static/plotly.min.js")
    assert plotly.headers["content-encoding"] == "gzip"
    assert "plotly.js v" in plotly.text[:100]
    plain = browser.get("/static/app.css", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert len(gzip.compress(plain.content)) < len(plain.content)


def test_a_token_locks_the_pages_until_it_is_given(client: Any, seed: Any) -> None:
    seed.asha(trials=3)
    browser = client(TOKEN)
    away = browser.get("/studies/gptstudy?sort=-number")
    assert away.status_code == 303
    assert away.headers["location"] == "/login?next=%2Fstudies%2Fgptstudy%3Fsort%3D-number"
    assert browser.get("/", headers={"Accept": "*/*"}).status_code == 401
    page(browser.get("/login"))
    assert browser.get("/static/app.css").status_code == 200

    wrong = browser.post("/login", data={"token": "wrong", "next": "/"})
    assert "This is not the token" in page(wrong, 403).text
    assert TOKEN not in wrong.text
    assert "set-cookie" not in wrong.headers

    right = browser.post("/login", data={"token": TOKEN, "next": "/studies/gptstudy"})
    assert (right.status_code, right.headers["location"]) == (303, "/studies/gptstudy")
    cookie = right.headers["set-cookie"].lower()
    assert cookie.startswith(f"{COOKIE}=")
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "Log out" in page(browser.get("/")).text
    assert browser.get("/v1/studies").status_code == 200

    browser.post("/logout")
    assert browser.get("/").status_code == 303


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/\\evil.example", "/a\nb", ""]
)
def test_a_login_never_leads_elsewhere(client: Any, target: str) -> None:
    answer = client(TOKEN).post("/login", data={"token": TOKEN, "next": target})
    assert answer.headers["location"] == "/"


def test_a_huge_login_form_is_refused(client: Any) -> None:
    answer = client(TOKEN).post("/login", data={"token": TOKEN + "x" * 100_000})
    assert answer.status_code == 403


def test_small_texts() -> None:
    assert [format.size(count) for count in (None, 12, 1_810_432, 3 * 2**40)] == [
        "–",
        "12 B",
        "1.73 MiB",
        "3 TiB",
    ]
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    ages = (datetime(2026, 1, 1, 11, 59, 59, tzinfo=UTC), datetime(2026, 1, 1, 9, 30, tzinfo=UTC))
    assert [format.relative(moment, noon) for moment in ages] == ["just now", "2 h ago"]


def test_the_api_reference_needs_no_other_site(client: Callable[..., httpx.Client]) -> None:
    application = client()
    page = application.get("/docs", headers=HTML)
    assert page.status_code == 200
    elements = Elements(page.text)
    document = application.get("/v1/openapi.json").json()
    for path, operations in document["paths"].items():
        for method in operations:
            assert f"{method.upper()} {path}" in elements.text
    for name in document["components"]["schemas"]:
        assert name in elements.text
    assert "fidelity" in elements.text
    linked = [element.get("src") or element.get("href") or "" for _, element in elements.tags]
    assert not [address for address in linked if address.startswith(("http", "//"))]


def test_seeds_and_final_scores(client: Any, seed: Any) -> None:
    seeds = {"tuning": [3, 4], "test": [100, 101], "finalists": 2}
    wanted = study_spec(strategy={"name": "random"}, budget={"trials": 4}, seeds=seeds)
    with seed.database.write() as session:
        studies.create(session, wanted, key="seeded", now=START)
    before = page(client().get("/studies/seeded"))
    assert "the 2 best trials are trained with 2 test seeds" in before.text
    assert "up to 40 steps beside the budget" in before.text
    drive(seed.database, SeededWorker(seed.database), Suggest(seed.database, Inline()))
    shown = page(client().get("/studies/seeded"))
    assert "Final loss, on test seeds" in shown.text
    assert "Best loss, on tuning seeds" in shown.text
    detail = client().get("/v1/studies/seeded").json()
    winner, score = detail["finals"]["winner"], detail["finals"]["scores"][0]
    for number in (score["mean"], score["low"], score["high"], score["tuning"]):
        assert figures.number(number) in shown.text
    trial = page(client().get(f"/studies/seeded/trials/{winner}"))
    for words in ("tuning 3", "tuning 4", "test 100", "test 101"):
        assert words in trial.text
    assert len(trial.all("polyline")) == 4
    replica = page(client().get(f"/studies/seeded/trials/{score['seeds'][0]['trial']}"))
    assert "with test seed 100" in replica.text
    head, *rows = client().get("/studies/seeded/trials.csv").text.splitlines()
    assert "replica_of,seed,test,seeds_measured,spread" in head
    assert len(rows) == detail["trials"]["completed"]
