"""Every DAG as Airflow stores it, without texts for people and paths of this machine."""

from typing import Any

from tests.plugins.airflow_home import ROOT  # first, because it gives this process its Airflow home

#: Texts for people and paths of this machine. A class may move to another module, because Airflow
#: shows `_task_module` and never imports it.
LEFT_OUT = {
    "__class",
    "_processor_dags_folder",
    "_task_module",
    "description",
    "description_md",
    "doc",
    "doc_md",
    "doc_rst",
    "fileloc",
    "group_display_name",
    "relative_fileloc",
    "section",
    "source",
    "title",
    "tooltip",
    "ui_color",
    "ui_fgcolor",
}


def dag_pins() -> dict[str, Any]:
    """Describe every DAG of dags/ by its id, including the generated DAGs."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    bag = DagBag(dag_folder=str(ROOT / "dags"), collect_dags=True)
    if bag.import_errors:
        raise RuntimeError(f"DAG files that do not parse: {bag.import_errors}")
    return {
        dag_id: _described(DagSerialization.to_dict(dag)["dag"]) for dag_id, dag in bag.dags.items()
    }


def _described(dag: dict[str, Any]) -> dict[str, Any]:
    tasks = {task["__var"]["task_id"]: task["__var"] for task in dag["tasks"]}
    for task in tasks.values():
        own = [one for one in task.get("params", ()) if one[1]["source"] != "dag"]
        task["params"] = dict(own)
    return _without_texts({**dag, "tasks": tasks, "params": dict(dag["params"])})


def _without_texts(node: Any) -> Any:
    if isinstance(node, dict):
        if set(node) == {"__type", "__var"} and node["__type"] in ("dict", "set", "tuple"):
            return _without_texts(node["__var"])
        return {key: _without_texts(value) for key, value in node.items() if key not in LEFT_OUT}
    if isinstance(node, list | tuple):
        return [_without_texts(one) for one in node]
    return node
