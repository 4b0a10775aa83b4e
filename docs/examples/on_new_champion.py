"""An example of your own DAG that runs after a promotion, an import or a rollback.

Copy it into the DAGs folder, and put the work for your consumers into `roll_out`. The event names
the version. `rl_lifecycle.registry.champions.load_champion` loads the policy and verifies it; if
the champion has moved again since the event, it loads the newest.
"""

from typing import Any

from airflow.sdk import DAG, Context, task
from airflow.sdk.exceptions import AirflowSkipException

from rl_airflow.registry.champion_asset import champion_asset

CHAMPION = champion_asset("cartpole_ppo")
ENVIRONMENT = "dev"

with DAG(
    "on_new_champion", schedule=[CHAMPION], catchup=False, doc_md=__doc__, tags=["example"]
) as dag:

    @task(inlets=[CHAMPION])
    def roll_out(**context: Any) -> dict[str, Any]:
        """Print which version is in service now.

        A cleared promotion may send its event twice, so this task must be safe to repeat.
        """
        asked: Context = context  # type: ignore[assignment]
        event = asked["triggering_asset_events"][CHAMPION][-1]
        told = dict(event.extra)
        if (
            told["environment"] != ENVIRONMENT
        ):  # the asset's name does not tell environments apart, its event does
            raise AirflowSkipException(
                f"a champion of the environment {told['environment']}, not of {ENVIRONMENT}"
            )
        print(  # noqa: T201
            f"{told['experiment']}: version {told['version']} ({told['digest'][:12]}) by "
            f"{told['move']}, files at {told['uri']}"
        )
        return told

    roll_out()
