"""The Airflow plugin: registers the extra links, the listeners and the console."""

from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from rl_airflow.infrastructure.audit_log import EndedByHandListener
from rl_airflow.machines.pools import PoolListener
from rl_airflow.run.abandoned_runs import AbandonedRunListener
from rl_airflow.run.links import JUDGE_LINKS, TRIAL_LINKS, VERSION_LINKS
from rl_airflow.run.notes import RunNoteListener

#: The address of the console's pages below Airflow's base path. It must begin with a slash: Airflow
#: 3.2 imports it as it is, and a browser takes a name without one for no address.
BASE_PATH = urlsplit(conf.get("api", "base_url", fallback="/")).path.rstrip("/")
BUNDLE = f"{BASE_PATH}/nightshift/web/console.js"


class NightshiftPlugin(AirflowPlugin):
    """The links on the tasks of a retraining, the console, and the listeners: they create the
    trials' pool, fail runs whose DAG is gone, write the notes of runs, and keep who ended a run by
    hand.
    """

    name = "nightshift"
    operator_extra_links = [*TRIAL_LINKS, *JUDGE_LINKS, *VERSION_LINKS]
    listeners = [
        PoolListener(),
        AbandonedRunListener(),
        RunNoteListener(),
        EndedByHandListener(),
    ]
    react_apps = [
        {
            "name": "Nightshift",
            "bundle_url": BUNDLE,
            "destination": "nav",
            "url_route": "nightshift",
            "nav_top_level": True,
        },
        {
            "name": "Nightshift run",
            "bundle_url": BUNDLE,
            "destination": "dag_run",
            "url_route": "nightshift_run",
        },
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # only the API asks
        """The console, made only where it is served: every process loads the plugin."""
        from rl_airflow.console.app import create_app

        return [{"app": create_app(), "url_prefix": "/nightshift", "name": "Nightshift console"}]
