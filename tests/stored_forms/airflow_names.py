"""Names that Airflow stores outside the DAGs: links, connections, Variable, assets, task state."""

from typing import Any, get_args

from airflow.sdk.exceptions import AirflowNotFoundException

import nightshift_plugin
from rl_airflow.dag_builders import params
from rl_airflow.infrastructure import sessions
from rl_airflow.machines import pools
from rl_airflow.registry import champion_asset
from rl_airflow.run import notices
from rl_airflow.trials import task_state
from tests.stored_forms.record_values import make_record


class FakeStateStore:
    """A task's state store that keeps the values it gets."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def set(self, key: str, value: Any) -> None:
        """Store a value."""
        self.values[key] = value

    def get(self, key: str) -> Any:
        """Return the value."""
        return self.values.get(key)


def names_pin() -> dict[str, Any]:
    """List the names as the code uses them."""
    plugin = nightshift_plugin.NightshiftPlugin
    asset = champion_asset.champion_asset("an_experiment")
    return {
        "plugin": plugin.name,
        "links": {
            type(link).__name__: [link.name, link.xcom_key] for link in plugin.operator_extra_links
        },
        "task state": _task_state(),
        "asset": [asset.name, asset.uri],
        "asset alias": champion_asset.CHAMPIONS.name,
        "pool": [pools.VCPU_POOL, pools.AWAIT_PRIORITY, pools.LAUNCH_PRIORITY],
        "variables": sorted([params.ENVIRONMENT_VARIABLE, notices.NOTIFIERS_VARIABLE]),
        "connections": _connections(),
    }


def _task_state() -> dict[str, Any]:
    """Return what a trial's task leaves in its state store."""
    store = FakeStateStore()
    context: Any = {"task_state_store": store}
    task_state.remember(context, make_record(task_state.TaskMemory, full=True))  # type: ignore[arg-type]
    task_state.MachineMemory(context).keep("a-token", "i-0123456789abcdef0")
    return store.values


def _connections() -> dict[str, str]:
    """Return the connection that each role's session looks up."""
    import airflow.sdk

    asked: list[str] = []

    def refuse(conn_id: str) -> Any:
        asked.append(conn_id)
        raise AirflowNotFoundException(conn_id)

    roles: list[Any] = [None, *get_args(sessions.Role)]
    before = airflow.sdk.BaseHook.get_connection
    airflow.sdk.BaseHook.get_connection = refuse  # type: ignore[method-assign, assignment]
    try:
        for role in roles:
            sessions.RoleSession(role, "dev")._find_connection()
    finally:
        airflow.sdk.BaseHook.get_connection = before  # type: ignore[method-assign]
    return {str(role): name for role, name in zip(roles, asked, strict=True)}
