"""Parse and serialize the DAGs of many experiments once, in a process of its own.

    python benchmarks/scheduling/parse_once.py CHECKOUT PROJECT

CHECKOUT is a checkout of Nightshift of any revision, and PROJECT holds its DAG files in dags/ and
the experiments. Each DAG file is read in turn, as Airflow's DAG processor does, except that all are
read in one process. Prints a JSON object: CPU seconds, DAGs, and bytes of the serialized DAGs.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(checkout: Path, project: Path) -> None:
    """Measure, after everything was imported that DAG files import."""
    sys.path[:0] = [str(checkout / room) for room in ("plugins", "lifecycle", ".")]
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    import rl_airflow.dag_builders.replay
    import rl_airflow.dag_builders.retrain

    found = Path(rl_airflow.dag_builders.retrain.__file__ or "")
    if checkout not in found.parents:
        sys.exit(f"error: {found} is not in {checkout}")
    files = sorted((project / "dags").glob("re[tp]*.py"))  # retrain*.py and replay_champion.py
    dags: list[Any] = []
    errors: dict[str, str] = {}
    began = time.process_time()
    for file in files:
        bag = DagBag(dag_folder=str(file), load_op_links=False)
        dags += bag.dags.values()
        errors |= bag.import_errors
    parsed = time.process_time()
    stored = [json.dumps(DagSerialization.to_dict(dag)) for dag in dags]
    done = time.process_time()
    result = {
        "dags": len(dags),
        "import_errors": errors,
        "parsing_cpu_s": parsed - began,
        "serializing_cpu_s": done - parsed,
        "bytes": sum(map(len, stored)),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
