"""The console in Airflow's own UI, used with a browser: ten questions, with the clicks counted."""

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Route

from tests.plugins.console.browser import NARROW, Visitor, new_context, opened_browser, served
from tests.plugins.console.stored_console import CountingStore, add_runs, token_of

if TYPE_CHECKING:
    from fastapi import FastAPI

pytestmark = pytest.mark.airflow

DAG = "retrain_cartpole_ppo"
HOME, EXPERIMENT = "/plugin/nightshift", f"/plugin/nightshift/{DAG}"
RUN = f"{EXPERIMENT}/run?run_id=night-2"
#: Each page, and a text on it that comes from the server.
PAGES = {
    "home": (HOME, "no run was judged"),
    "experiment": (EXPERIMENT, "Returns that decided"),
    "run": (RUN, "Looks at the result"),
    "compare": (f"{EXPERIMENT}/compare?run_id=night-1&run_id=night-2", "Settings that differ"),
    "report": (f"{EXPERIMENT}/report?run_id=night-2", "open the report alone"),
    "log": (f"{EXPERIMENT}/log?run_id=night-2&trial=seed-0&seat=0&attempt=1", "lines;"),
}

Visit = Callable[..., Visitor]


@pytest.fixture(scope="module")
def console(airflow_app: "FastAPI") -> Iterator[str]:
    """Airflow's UI with three nights of an experiment."""
    add_runs(DAG, "night-1", "night-2", "night-3")
    with served(airflow_app) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with opened_browser() as opened:
        yield opened


@pytest.fixture
def visit(console: str, browser: Browser) -> Iterator[Visit]:
    """Open windows of people who have logged in; no script may fail in them."""
    opened: list[Visitor] = []

    def made(role: str = "admin", **options: Any) -> Visitor:
        context = new_context(browser, console, token_of(role), **options)
        opened.append(Visitor(context.new_page(), console))
        return opened[-1]

    yield made
    for visitor in opened:
        visitor.page.context.close()
    assert [error for visitor in opened for error in visitor.errors] == []


@pytest.fixture(scope="module")
def window(console: str, browser: Browser) -> Iterator[Visitor]:
    """One window for all ten questions, because Airflow's UI takes seconds to load."""
    with new_context(browser, console, token_of("admin")) as context:
        visitor = Visitor(context.new_page(), console)
        visitor.page.goto(console)
        yield visitor


@pytest.fixture
def person(window: Visitor) -> Iterator[Visitor]:
    """A person at Airflow's first page."""
    window.clicks = 0
    window.move("/")
    window.page.locator(".ns").wait_for(state="detached")
    window.page.get_by_role("link", name="Nightshift").wait_for()
    yield window
    assert window.errors == []


def open_home(person: Visitor) -> None:
    """Click on Nightshift, and wait for the experiments."""
    person.link("Nightshift")
    person.see("Experiments")
    person.page.get_by_role("table", name="Experiments").wait_for()


def test_which_version_is_in_service(person: Visitor) -> None:
    """One click shows each experiment's champion."""
    open_home(person)
    assert re.search(r"version \d", person.row("Experiments", "cartpole_ppo"))
    assert person.clicks == 1


def test_what_the_last_decision_was_and_why(person: Visitor) -> None:
    """One click shows the last decision in words."""
    open_home(person)
    row = person.row("Experiments", "cartpole_ppo")
    assert re.search(r"\npromote\n|\tpromote\n", row), row
    assert "the candidate is better (p = 1.8e-05)" in row
    assert person.clicks == 1


def test_how_the_policies_learned(person: Visitor) -> None:
    """Two clicks show the learning curves of the nights."""
    open_home(person)
    person.link("cartpole_ppo")
    person.page.get_by_role("img", name=re.compile("Learning curves of the last nights")).wait_for()
    assert person.clicks == 2


def test_how_two_runs_differ(person: Visitor) -> None:
    """Three clicks show the last two judged runs beside each other."""
    open_home(person)
    person.link("cartpole_ppo")
    person.link("Compare 2 runs")
    person.see("Settings that differ")
    person.page.get_by_role("img", name=re.compile("Returns of the candidates")).wait_for()
    assert person.clicks == 3


def test_what_the_last_night_cost(person: Visitor) -> None:
    """Two clicks show what a run cost, and what it was allowed to cost."""
    open_home(person)
    person.link("Last run of cartpole_ppo")
    person.see("Champion then")
    assert re.match(r"\$\d+\.\d+\s+of at most \$", person.fact("Cost"))
    assert person.clicks == 2


def test_what_the_month_costs(person: Visitor) -> None:
    """One click shows the money of the month."""
    open_home(person)
    assert re.match(r"\$\d+\.\d+", person.fact("Cost this month"))
    assert person.clicks == 1


def test_which_machines_work_now(person: Visitor) -> None:
    """One click shows the machines."""
    open_home(person)
    assert re.match(r"\d+", person.fact("Machines now"))
    assert person.clicks == 1


def test_what_a_machine_wrote(person: Visitor) -> None:
    """Three clicks show the log of a machine."""
    open_home(person)
    person.link("Last run of cartpole_ppo")
    person.click(person.page.get_by_role("link", name=re.compile("^Log of seed-0")))
    assert len(person.see("lines;").inner_text()) > 0
    assert "step" in person.page.locator("pre").inner_text()
    assert person.clicks == 3


def test_how_the_candidate_looks_when_it_plays(person: Visitor) -> None:
    """Two clicks show the films of the last decision, in a frame without rights."""
    open_home(person)
    person.link("Report and films of cartpole_ppo")
    frame = person.page.locator("iframe")
    frame.wait_for()
    assert frame.get_attribute("sandbox") == ""
    person.page.frame_locator("iframe").locator("h1").first.wait_for()
    assert person.clicks == 2


def test_when_the_next_night_begins(person: Visitor) -> None:
    """One click shows the time of the next night, or why there is none."""
    open_home(person)
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d|unpause", person.fact("Next night"))
    assert person.clicks == 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_for_axe(visit: Visit, theme: str) -> None:
    """axe-core finds nothing serious or critical in the console's part of any page."""
    visitor = visit(theme=theme)
    for name, (path, text) in PAGES.items():
        visitor.go(path, text)
        found = Axe().run(visitor.page, context={"include": [[".ns"]], "exclude": [["iframe"]]})
        bad = {
            one["id"]: [node["html"][:200] for node in one["nodes"]][:3]
            for one in found.response["violations"]
            if one["impact"] in ("serious", "critical")
        }
        assert bad == {}, f"{name}: {json.dumps(bad, indent=1)}"


def test_a_narrow_window_does_not_scroll_sideways(visit: Visit) -> None:
    """Each page fits into 390 px."""
    visitor = visit(size=NARROW)
    for name, (path, text) in PAGES.items():
        visitor.go(path, text)
        wide = visitor.page.evaluate(
            "[document.documentElement, document.querySelector('.ns')]"
            ".filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.scrollWidth)"
        )
        assert wide == [], name


def test_the_keyboard_is_enough(visit: Visit) -> None:
    """Search, sort, open a row and read a curve's value without a mouse."""
    visitor = visit()
    visitor.go(HOME, "Experiments")
    page = visitor.page
    page.get_by_role("searchbox").focus()
    page.keyboard.type("cartpole")
    assert "1 of" in visitor.see("1 of").inner_text()
    page.get_by_role("button", name=re.compile("^Experiment")).focus()
    page.keyboard.press("Enter")
    page.locator("th[aria-sort=ascending]").wait_for()
    page.get_by_role("link", name="cartpole_ppo", exact=True).focus()
    page.keyboard.press("Enter")
    chart = page.get_by_role("img", name=re.compile("Learning curves of the last nights"))
    chart.focus()
    page.keyboard.press("ArrowRight")
    visitor.see(re.compile(r"^at [\d,]+: "))  # type: ignore[arg-type]


def test_a_chart_can_be_read_as_a_table(visit: Visit) -> None:
    """The table of a curve has a row for each step."""
    visitor = visit()
    visitor.go(RUN, "Looks at the result")
    figure = visitor.page.get_by_role("figure", name="Learning curve on the selection seeds")
    figure.get_by_role("button", name="As a table").click()
    assert figure.get_by_role("row").count() > 1


def test_the_run_has_a_tab_in_airflow(visit: Visit) -> None:
    """Airflow's page of a run has a tab with the decision and the curves."""
    visitor = visit()
    visitor.page.goto(f"{visitor.url}/dags/{DAG}/runs/night-2")
    visitor.page.get_by_role("link", name="Nightshift run").click()
    visitor.see("Looks at the result")
    visitor.page.get_by_role("img", name=re.compile("Learning curve")).wait_for()


def test_a_part_that_cannot_be_read_is_one_sentence(visit: Visit, bucket: CountingStore) -> None:
    """Without the bucket the page says what happened, and stays usable."""
    visitor = visit()
    bucket.away = True
    try:
        visitor.page.goto(f"{visitor.url}{EXPERIMENT}/run?run_id=night-3")
        alert = visitor.page.locator(".ns").get_by_role("alert").first
        alert.wait_for()
        assert re.search(r"bucket|answer|read", alert.inner_text())
    finally:
        bucket.away = False


def question(subject: str, body: str) -> dict[str, Any]:
    """An open question, in the form of Airflow's API."""
    return {
        "subject": subject,
        "body": body,
        "options": ["Approve", "Reject"],
        "created_at": "2026-11-29T23:00:00Z",
        "response_received": False,
        "task_instance": {
            "id": "0190",
            "task_id": "approve",
            "map_index": -1,
            "state": "awaiting_input",
        },
    }


def test_a_question_is_answered_beside_its_evidence(visit: Visit) -> None:
    """An answer needs a second click, goes to Airflow's API, and its refusal is shown."""
    visitor, answers = visit(), []
    hostile = "<img src=x onerror=alert(1)> [Report](https://x.test)"

    def serve_run(route: Route) -> None:
        run = route.fetch().json()
        route.fulfill(json=run | {"live": True, "state": "running"})

    def serve_question(route: Route) -> None:
        if route.request.method == "PATCH":
            answers.append(route.request.post_data_json)
            route.fulfill(status=403, json={"detail": "Forbidden"})
        else:
            route.fulfill(json={"hitl_details": [question("Promote it?", hostile)]})

    visitor.page.route("**/nightshift/api/experiments/*/run?*", serve_run)
    visitor.page.route(re.compile("hitlDetails"), serve_question)
    visitor.go(RUN, "Promote it?")
    visitor.see("<img src=x onerror=alert(1)> Report")
    visitor.page.get_by_role("button", name="Approve").click()
    assert answers == []
    visitor.page.get_by_role("button", name="Yes, approve").click()
    visitor.see("Ask an administrator of Airflow")
    assert answers == [{"chosen_options": ["Approve"], "params_input": {}}]


def test_a_rollback_asks_for_a_reason_and_confirms(visit: Visit) -> None:
    """The form names what happens, refuses an empty reason, and triggers Airflow's own DAG."""
    visitor, sent = visit(), []

    def answer(route: Route) -> None:
        if route.request.method == "POST":
            sent.append((route.request.url, route.request.post_data_json))
        route.fulfill(json={"dag_run_id": "manual__1", "state": "queued"})

    visitor.page.route("**/api/v2/dags/rollback_policy**", answer)
    visitor.go(EXPERIMENT, "Returns that decided")
    page = visitor.page
    page.get_by_role("button", name=re.compile("Roll back to 1")).click()
    page.get_by_label("Reason").fill(" x ")
    page.get_by_role("button", name="Roll back to version 1").click()
    visitor.see("At least three characters")
    assert sent == []
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    page.get_by_role("button", name=re.compile("Roll back to 1")).click()
    page.get_by_label("Reason").fill("the new one shakes")
    page.get_by_role("button", name="Roll back to version 1").click()
    visitor.see("open the run")
    [(url, body)] = sent
    assert url.endswith("/api/v2/dags/rollback_policy/dagRuns")
    assert body["conf"]["version"] == 1
    assert body["conf"]["reason"] == "the new one shakes"
    assert body["conf"]["experiment"] == "cartpole_ppo"
    assert body["conf"]["environment"] == "dev"


def test_who_may_only_look_gets_a_sentence(visit: Visit) -> None:
    """Airflow refuses the action of a viewer, and the form says so."""
    visitor = visit(role="viewer")
    visitor.go(EXPERIMENT, "Returns that decided")
    visitor.page.get_by_role("button", name="Replay").first.click()
    visitor.page.get_by_role("button", name="Rent a machine and replay").click()
    visitor.see("Ask an administrator of Airflow")


def test_each_new_answer_is_shown_without_a_reload(visit: Visit) -> None:
    """Also the third one: React may look at an answer after the page has noted it as known."""
    visitor, answers = visit(), []
    visitor.page.clock.install()

    def answer(route: Route) -> None:
        answers.append(len(answers) + 1)
        route.fulfill(json=route.fetch().json() | {"usd_month": 100 * len(answers)})

    visitor.page.route("**/nightshift/api/home", answer)
    visitor.go(HOME, "$100.00")
    for money in ("$200.00", "$300.00", "$400.00"):
        visitor.page.clock.run_for(11_000)
        visitor.see(money)


def test_a_hidden_page_asks_for_nothing(visit: Visit) -> None:
    """A hidden page does not poll; it asks at once when it is visible again."""
    visitor, asked = visit(), []
    visitor.page.clock.install()
    visitor.page.on("request", lambda one: asked.append(one.url) if "api/home" in one.url else None)
    visitor.go(HOME, "Experiments")
    show = """(state) => {
      Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    before = len(asked)
    visitor.page.evaluate(show, "hidden")
    visitor.page.clock.run_for(120_000)
    visitor.page.wait_for_timeout(500)  # a request would be seen a moment later
    assert len(asked) == before == 1
    with visitor.page.expect_request(re.compile("api/home")):
        visitor.page.evaluate(show, "visible")
    visitor.page.clock.run_for(1_000)
