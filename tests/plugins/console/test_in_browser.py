"""The console in Airflow's own UI, used with a browser: ten questions, with the clicks counted."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Route

from rl_airflow.run.links import report_link, trial_links, version_links
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.layout import champion_key, shard_key, spec_key, version_prefix
from rl_lifecycle.storage.object_store import get
from tests.conftest import ROOT
from tests.plugins.console.browser import (
    NARROW,
    Visitor,
    assert_it_moves,
    new_context,
    opened_browser,
    served,
)
from tests.plugins.console.stored_console import NOW, CountingStore, add_runs, token_of
from tests.plugins.worlds import World

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


def assert_accessible(visitor: Visitor, name: str) -> None:
    """axe-core finds nothing serious or critical in the console's part of the page."""
    found = Axe().run(visitor.page, context={"include": [[".ns"]], "exclude": [["iframe"]]})
    bad = {
        one["id"]: [node["html"][:200] for node in one["nodes"]][:3]
        for one in found.response["violations"]
        if one["impact"] in ("serious", "critical")
    }
    assert bad == {}, f"{name}: {json.dumps(bad, indent=1)}"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_for_axe(visit: Visit, theme: str) -> None:
    """Each page is accessible, light and dark."""
    visitor = visit(theme=theme)
    for name, (path, text) in PAGES.items():
        visitor.go(path, text)
        assert_accessible(visitor, name)


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


def change_answer(
    visitor: Visitor, pattern: str, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """Change what the server answers to the pages."""

    def answer(route: Route) -> None:
        route.fulfill(json=change(route.fetch().json()))

    visitor.page.route(pattern, answer)


def test_two_hundred_experiments_are_found_sorted_and_accessible(visit: Visit) -> None:
    """All are shown; search and sort work with the keyboard; a broken file is red."""
    visitor = visit()

    def multiply(home: dict[str, Any]) -> dict[str, Any]:
        one = next(row for row in home["experiments"] if row["experiment"] == "cartpole_ppo")
        rows = [
            one | {"experiment": f"robot_{n:03}", "dag_id": f"retrain_{n}", "usd_month": n % 7}
            for n in range(200)
        ]
        rows[150] |= {"problem": "robots.yaml: algo: unknown", "champion": None, "decision": None}
        return home | {"experiments": rows}

    change_answer(visitor, "**/nightshift/api/home", multiply)
    visitor.go(HOME, "200 experiments")
    page = visitor.page
    rows = page.get_by_role("table", name="Experiments").locator("tbody tr")
    assert rows.count() == 200
    assert_accessible(visitor, "home with 200 experiments")
    page.get_by_role("button", name=re.compile("^Cost this month")).focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.locator("th[aria-sort=descending]").wait_for()
    costs = [float(text.strip("$")) for text in rows.locator(".ns-n").all_inner_texts()]
    assert costs == sorted((float(n % 7) for n in range(200)), reverse=True)
    page.get_by_role("searchbox").focus()
    page.keyboard.type("unknown robot")
    visitor.see("1 of 200 experiments")
    assert "ns-bad" in str(rows.get_by_text("robots.yaml").get_attribute("class"))
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Control+a")
    page.keyboard.type("robot_19")
    visitor.see("10 of 200 experiments")
    page.get_by_role("link", name="robot_199", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/plugin/nightshift/retrain_199")


def test_a_thousand_runs_are_listed(visit: Visit) -> None:
    """The first twenty are drawn at once, and all of them on demand."""
    visitor = visit()

    def multiply(page: dict[str, Any]) -> dict[str, Any]:
        names = [f"night-{n}" for n in range(1000)]
        return page | {"runs": [page["runs"][0] | {"run_id": n, "run": n} for n in names]}

    change_answer(visitor, f"**/nightshift/api/experiments/{DAG}", multiply)
    visitor.go(EXPERIMENT, "Returns that decided")
    rows = visitor.page.get_by_role("table", name="Runs", exact=True).locator("tbody tr")
    assert rows.count() == 20
    visitor.page.get_by_role("button", name="Show all 1000").click()
    rows.nth(999).wait_for()
    visitor.page.get_by_role("button", name="Run", exact=True).click()
    assert "night-0" in rows.first.inner_text()


def test_a_chart_can_be_read_as_a_table(visit: Visit) -> None:
    """The table of a curve has a row for each step."""
    visitor = visit()
    visitor.go(RUN, "Looks at the result")
    figure = visitor.page.get_by_role("figure", name="Learning curve on the selection seeds")
    figure.get_by_role("button", name="As a table").click()
    assert figure.get_by_role("row").count() > 1


def test_a_curve_of_one_point_names_its_step_once(visit: Visit) -> None:
    """Labels of an axis differ, also if a run has one checkpoint only."""
    visitor = visit()
    visitor.go(f"{EXPERIMENT}/run?run_id=night-1", "Looks at the result")
    figure = visitor.page.get_by_role("figure", name="Learning curve on the selection seeds")
    figure.locator("svg").wait_for()
    labels = figure.locator("svg text").all_text_contents()
    assert "5120" in labels
    assert len(labels) == len(set(labels)), labels


def test_the_run_has_a_tab_in_airflow(visit: Visit) -> None:
    """Airflow's page of a run has a tab with the decision and the curves."""
    visitor = visit()
    visitor.page.goto(f"{visitor.url}/dags/{DAG}/runs/night-2")
    visitor.page.get_by_role("link", name="Nightshift run").click()
    visitor.see("Looks at the result")
    visitor.page.get_by_role("img", name=re.compile("Learning curve")).wait_for()


def test_the_links_of_tasks_open_their_pages(visit: Visit, bucket: CountingStore) -> None:
    """Report, log, curve and version: each link of a task leads to the thing itself."""
    spec = Spec.from_json(get(bucket, spec_key("cartpole_ppo", "night-2")).data)
    trial = trial_links(World().plan, spec, "seed-0", 1, "i-1", of_aws=False)
    links = {
        report_link(spec): "open the report alone",
        trial["S3LogLink"]: "lines;",
        trial["LearningCurveLink"]: "Looks at the result",
        trial["Ec2InstanceLink"]: "Machines",
        version_links("cartpole_ppo")["VersionLink"]: "Returns that decided",
    }
    visitor = visit()
    visitor.go(HOME, "Experiments")
    for link, text in links.items():
        resolve = "(href) => Object.assign(document.createElement('a'), { href }).href"
        assert visitor.page.evaluate(resolve, link) == f"{visitor.url}/{link}"
        visitor.go(f"/{link}", text)


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


def test_damaged_files_cost_one_sentence_each(visit: Visit, bucket: CountingStore) -> None:
    """An edited pointer, a lost manifest and a cut shard; when they are restored, all is shown."""
    damages = {
        champion_key("cartpole_ppo"): b"edited by hand",
        version_prefix("cartpole_ppo", 1) + "manifest.json": None,
        shard_key("cartpole_ppo", "night-2", "select-seed-0-5120", 0): b'{"schema',
    }
    before = {key: get(bucket.store, key).data for key in damages}
    visitor = visit()
    alert = visitor.page.locator(".ns").get_by_role("alert").first
    for key, data in damages.items():
        bucket.delete(key) if data is None else bucket.put(key, data)
    try:
        visitor.go(EXPERIMENT, "Returns that decided")
        alert.wait_for()
        assert visitor.page.get_by_role("table", name="Runs", exact=True).is_visible()
        assert visitor.page.get_by_role("button", name="Import a policy").is_visible()
        visitor.go(RUN, "An evaluation is left out of the curves")
        visitor.see("Looks at the result")
        visitor.page.get_by_role("img", name=re.compile("Learning curve")).wait_for()
    finally:
        for key, data in before.items():
            bucket.put(key, data)
    visitor.go(EXPERIMENT, "version 2")
    alert.wait_for(state="detached")


@contextmanager
def open_question(run_id: str, body: str) -> Iterator[Callable[[], Any]]:
    """Let the run's task `approve` ask a person, as its operator does.

    :return: reads the answer and the person who gave it
    """
    from airflow.models.dagrun import DagRun
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.settings import Session
    from airflow.utils.state import DagRunState, TaskInstanceState

    session: Any = Session()
    run = session.query(DagRun).filter_by(dag_id=DAG, run_id=run_id).one()
    task = session.query(TaskInstance).filter_by(dag_id=DAG, run_id=run_id, task_id="approve").one()
    run.state, task.state = DagRunState.RUNNING, TaskInstanceState.AWAITING_INPUT
    asked = {"options": ["Approve", "Reject"], "defaults": ["Reject"], "params": {}}
    session.add(HITLDetail(ti_id=task.id, subject="Promote it?", body=body, **asked))
    session.commit()

    def answer() -> Any:
        session.expire_all()
        detail = session.get(HITLDetail, task.id)
        return detail.chosen_options, (detail.responded_by or {}).get("name")

    try:
        yield answer
    finally:
        session.delete(session.get(HITLDetail, task.id))
        run.state, task.state = DagRunState.SUCCESS, None
        session.commit()


def approve(visitor: Visitor) -> None:
    """Click on the answer, and confirm it."""
    visitor.page.get_by_role("button", name="Approve", exact=True).click()
    visitor.page.get_by_role("button", name="Yes, approve").click()


def test_a_question_is_answered_beside_its_evidence_by_a_person_who_may(visit: Visit) -> None:
    """Airflow's API refuses a viewer, records who answered, and the question disappears."""
    hostile = "<img src=x onerror=alert(1)> [Report](https://x.test)"
    with open_question("night-2", hostile) as answer:
        viewer = visit(role="viewer")
        viewer.go(RUN, "Promote it?")
        viewer.see("<img src=x onerror=alert(1)> Report")
        approve(viewer)
        viewer.see("Ask an administrator of Airflow")
        assert answer() == (None, None)
        person = visit(role="user")
        person.go(RUN, "Promote it?")
        person.see("Looks at the result")
        person.page.get_by_role("button", name="Approve", exact=True).click()
        assert answer() == (None, None)
        person.page.get_by_role("button", name="Yes, approve").click()
        person.page.get_by_text("Promote it?").wait_for(state="detached")
        assert answer() == (["Approve"], "ada")


def test_a_film_plays_on_the_page_of_the_report(visit: Visit) -> None:
    """The film of the worst episode moves, although the frame may run no script."""
    visitor = visit()
    visitor.go(*PAGES["report"])
    assert_it_moves(visitor.page.frame_locator("iframe").locator("details[open] img").first)


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


@pytest.mark.parametrize(
    ("name", "page", "height"), [("console-home", "home", 500), ("console-run", "run", 1060)]
)
def test_a_picture_of_the_page_is_small(
    visit: Visit, tmp_path: Path, name: str, page: str, height: int
) -> None:
    """The pictures of README and docs come from here; set WRITE_PICTURES=1 to write them again."""
    folder = ROOT / "docs/pictures" if os.environ.get("WRITE_PICTURES") else tmp_path
    visitor = visit(size=(1100, height))
    visitor.page.clock.set_fixed_time(NOW)
    visitor.go(*PAGES[page])
    visitor.page.locator(".ns svg").first.wait_for()
    visitor.page.wait_for_timeout(500)  # Airflow's own parts settle
    visitor.page.screenshot(path=folder / f"{name}.png")
    assert (folder / f"{name}.png").stat().st_size < 150_000
    assert f"pictures/{name}.png" in (ROOT / "README.md").read_text()


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
