"""The console where Airflow has a base path, as behind a proxy at `https://host/airflow/`.

CONTRIBUTING.md says how to run it with another version of Airflow.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator

import pytest

from tests.conftest import ROOT
from tests.plugins.console.browser import Visitor, new_context, opened_browser
from tests.plugins.console.serve_console import ANSWERS

pytestmark = pytest.mark.airflow

BASE = "/airflow"
DAG = "retrain_cartpole_ppo"
#: The Python with the Airflow that is served.
PYTHON = os.environ.get("NIGHTSHIFT_CONSOLE_PYTHON", sys.executable)
FOLDERS = (str(ROOT), *(str(ROOT / name) for name in ("lifecycle", "plugins")))


def free_port() -> int:
    """Find a port that no program uses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URL of Airflow's UI below a base path, and the token of an administrator."""
    port, log = free_port(), tmp_path_factory.mktemp("served") / "log"
    url = f"http://127.0.0.1:{port}{BASE}"
    with (
        log.open("w") as out,
        subprocess.Popen(
            [PYTHON, "-m", "tests.plugins.console.serve_console", str(port)],
            env=os.environ
            | {"AIRFLOW__API__BASE_URL": f"{url}/", "PYTHONPATH": os.pathsep.join(FOLDERS)},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
        ) as process,
    ):
        while not (found := re.findall(rf"^{ANSWERS}(\S+)$", log.read_text(), re.M)):
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield url, found[0]
        assert process.stdin
        process.stdin.close()


def outside(url: str, addresses: Iterable[str]) -> set[str]:
    """The addresses that are not below a URL. Airflow's own editor makes some without a path."""
    return {one for one in addresses if one.startswith("http") and not one.startswith(f"{url}/")}


@pytest.fixture
def visitor(served: tuple[str, str]) -> Iterator[Visitor]:
    """A person who has logged in."""
    with opened_browser() as browser, new_context(browser, *served) as context:
        made = Visitor(context.new_page(), served[0])
        yield made
        assert made.errors == []


def test_all_addresses_are_below_the_base_path(visitor: Visitor) -> None:
    """Modules, requests and links are, on each page and on the tab of a run."""
    page, asked, failed = visitor.page, set[str](), list[str]()
    page.on("request", lambda request: asked.add(request.url))
    page.on(
        "response",
        lambda answer: failed.append(answer.url) if answer.status >= 400 else None,
    )
    page.goto(f"{visitor.url}/")
    visitor.link("Nightshift")
    page.get_by_role("table", name="Experiments").wait_for()
    visitor.link("cartpole_ppo")
    visitor.see("Returns that decided")
    visitor.link("Compare 2 runs")
    visitor.see("Settings that differ")
    page.goto(f"{visitor.url}/plugin/nightshift/{DAG}/run?run_id=night-2")
    visitor.see("Looks at the result")
    visitor.click(page.get_by_role("link", name=re.compile("^Log of seed-0")))
    visitor.see("lines;")
    page.goto(f"{visitor.url}/plugin/nightshift/{DAG}/report?run_id=night-2")
    visitor.see("open the report alone")
    page.frame_locator("iframe").locator("body").get_by_text("night-2").first.wait_for()
    page.goto(f"{visitor.url}/dags/{DAG}/runs/night-2/plugin/nightshift_run")
    visitor.see("Looks at the result")
    visitor.link("all runs of cartpole_ppo")
    visitor.see("Returns that decided")
    assert outside(visitor.url, asked) == set()
    assert [address for address in failed if "nightshift" in address] == []
    parts = ("/nightshift/web/home.js", "/nightshift/api/home", "/report?", "/log?", "/hitlDetails")
    for part in parts:
        assert [address for address in asked if part in address], part
    hrefs = page.locator(".ns a").evaluate_all("(all) => all.map((one) => one.href)")
    assert outside(visitor.url, hrefs) == set()


def test_a_login_that_ended_leads_to_airflows_login(visitor: Visitor) -> None:
    """Which is below the base path, too."""
    page = visitor.page
    page.goto(f"{visitor.url}/plugin/nightshift")
    page.get_by_role("table", name="Experiments").wait_for()
    page.context.clear_cookies()
    visitor.link("cartpole_ppo")
    page.wait_for_url(f"{visitor.url}/auth/login**")
