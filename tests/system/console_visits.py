"""A person's visits to the console of a real Airflow, on a bucket of the local AWS."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import quote

from rl_lifecycle.records.names import slug
from rl_lifecycle.storage.layout import TrialId, heartbeat_key
from rl_lifecycle.storage.object_store import get
from rl_lifecycle.trials.heartbeats import Heartbeat
from rl_trainer.reporting.heartbeat import interval_s
from tests.plugins.console.browser import Visitor, assert_it_moves, new_context, opened_browser
from tests.system.accounts import Account
from tests.system.api import EXPERIMENT, NIGHT, Api

PAGE = f"/plugin/nightshift/{NIGHT}"
#: A question is cleared, planned and asked again within this time on a busy machine.
ASKED_WITHIN_MS = 180_000
SHOWN_WITHIN_S = 10.0


@contextmanager
def opened_console(api: Api) -> Iterator[Visitor]:
    """Open a browser of the person who is logged in; no script may fail in it."""
    with opened_browser() as browser, new_context(browser, api.url, api.token) as context:
        visitor = Visitor(context.new_page(), api.url)
        yield visitor
        assert visitor.errors == []


def answer_beside_its_evidence(visitor: Visitor, run_id: str) -> None:
    """Approve in the page that shows the decision, its pairs and the curves."""
    visitor.go(f"{PAGE}/run?run_id={quote(run_id)}", "Looks at the result")
    page = visitor.page
    approve = page.get_by_role("button", name="Approve", exact=True)
    approve.wait_for(timeout=ASKED_WITHIN_MS)
    page.get_by_role("img", name="Returns on the same seeds").wait_for()
    visitor.see("if a person approves")
    page.wait_for_timeout(2000)  # Airflow loses an answer that comes before the task has paused
    approve.click()
    page.get_by_role("button", name="Yes, approve").click()
    approve.wait_for(state="detached")


def see_who_approved(visitor: Visitor) -> None:
    """The history of the champion names the person."""
    visitor.go(PAGE, "Returns that decided")
    visitor.page.get_by_role("table", name="History of the champion").get_by_text(
        "approved by admin"
    ).wait_for()


def watch_a_film(visitor: Visitor, run_id: str) -> None:
    """The first film of the report moves, in a frame that may run no script."""
    visitor.go(f"{PAGE}/report?run_id={quote(run_id)}", "open the report alone")
    assert_it_moves(visitor.page.frame_locator("iframe").locator("details[open] img").first)


def watch_a_trial(visitor: Visitor, account: Account, run_id: str) -> None:
    """Three new reports of the machine reach the open page in time."""
    trial = TrialId(EXPERIMENT, slug(run_id), "seed-0")
    visitor.go(f"{PAGE}/run?run_id={quote(run_id)}", "Machines")
    visitor.page.evaluate("globalThis.loadedOnce = true")
    visitor.page.get_by_role("table", name="Trials").get_by_text("training").wait_for(
        timeout=ASKED_WITHIN_MS
    )
    launched_at = min(one["LaunchTime"] for one in account.machines(trial.run))
    for _ in range(3):
        beat = wait_for_report(account, trial, _shown_step(visitor))
        interval = interval_s((beat.at - launched_at).total_seconds())
        end = beat.at.timestamp() + interval + SHOWN_WITHIN_S
        while _shown_step(visitor) < beat.step:
            late = datetime.now(UTC).timestamp() > end
            assert not late, f"step {beat.step} is not shown, and {_shown_step(visitor)} is"
            visitor.page.wait_for_timeout(200)
    assert visitor.page.evaluate("globalThis.loadedOnce"), "the page was loaded again"


def _shown_step(visitor: Visitor) -> int:
    cell = visitor.page.get_by_role("table", name="Trials").locator("td[data-label=Steps]").first
    return int(cell.inner_text().replace(",", ""))


def wait_for_report(account: Account, trial: TrialId, after: int) -> Heartbeat:
    """Wait until a machine has reported a later step."""
    end = time.monotonic() + 120
    while True:
        beat = Heartbeat.from_json(get(account.store, heartbeat_key(trial)).data, "a heartbeat")
        if beat.step > after:
            return beat
        assert time.monotonic() < end, "the machine reports nothing"
        time.sleep(0.2)
