"""The console is a part of the API server alone."""

import pytest

from tests.dags.conftest import run_python

pytestmark = pytest.mark.airflow

#: Load the plugin as every process of Airflow does, with its links and its listeners.
LOAD = """
import sys
from airflow import plugins_manager
from airflow.listeners.listener import get_listener_manager
get_listener_manager()
plugins_manager.get_operator_extra_links()
plugins, errors = plugins_manager._get_plugins()
assert errors == {}, errors
(ours,) = [one for one in plugins if one.name == "nightshift"]
assert ours.listeners and ours.operator_extra_links
"""


def test_no_other_process_loads_the_console() -> None:
    """Schedulers, triggerers, workers and parsers load the plugin, and no web framework with it."""
    code = LOAD + (
        "print([name for name in sys.modules if name.split('.')[0] in ('fastapi', 'starlette')"
        " or name.startswith('rl_airflow.console')])"
    )
    assert run_python(code).splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("base_url", "path"),
    [("", ""), ("https://host", ""), ("https://host/airflow/", "/airflow"), ("//h/a/b", "/a/b")],
)
def test_the_api_server_mounts_it_once_for_both_pages(
    base_url: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both pages are of one bundle, below the base path.

    Airflow 3.3 takes a relative address, too, and Airflow 3.2 does not.
    """
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    code = LOAD + (
        "first, second = ours.fastapi_apps, ours.fastapi_apps\n"
        "print(first is second, first[0]['url_prefix'],"
        " [(one['name'], one['destination'], one['bundle_url']) for one in ours.react_apps])"
    )
    bundle = f"{path}/nightshift/web/console.js"
    pages = [("Nightshift", "nav", bundle), ("Nightshift run", "dag_run", bundle)]
    assert run_python(code).splitlines()[-1] == f"True /nightshift {pages}"
