"""The experiment of the interruption drill: a small training with an early first checkpoint."""

from typing import Any

from rl_lifecycle.experiment.experiment import read_experiment

#: The name of the experiment. No file may have it.
DRILL = "drill"


def drill_experiment() -> dict[str, Any]:
    """Return the experiment as JSON: CartPole in five segments."""
    document = {
        "env_id": "CartPole-v1",
        "algo": "ppo",
        "total_timesteps": 204_800,
        "trials": 1,
        "checkpoint_every": 40_960,
        "schedule": None,
        "compute": {"market": "on-demand", "max_hours": 1, "budget_usd": 1},
        # Nothing is judged, so little is reserved for it.
        "evaluation": {
            "return_range": [0, 500],
            "crash_below": 100,
            "max_pairs": 200,
            "selection_episodes": 50,
        },
    }
    experiment: dict[str, Any] = read_experiment(document, DRILL, source="the drill").model_dump(
        mode="json"
    )
    return experiment
