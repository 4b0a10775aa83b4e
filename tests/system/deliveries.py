"""Request episodes from the evaluator as the operators do, and read what is stored."""

import logging
from typing import Any

import pytest

from rl_airflow.errors import EvaluationFailedError
from rl_airflow.evaluation import lambda_operator
from rl_airflow.evaluation.evaluation_files import EvaluationFiles
from rl_airflow.evaluation.evaluator import Evaluator, Job, Scene
from rl_airflow.evaluation.lambda_operator import LambdaRunOperator
from rl_airflow.evaluation.trigger import LambdaEvaluationTrigger
from rl_lifecycle.evaluation.requests import Shard
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.storage.layout import shard_prefix
from rl_lifecycle.storage.s3_store import S3Store
from tests.plugins.worlds import World

log = logging.getLogger(__name__)

FUNCTION = "nightshift-dev-evaluator"
EPISODES, SHARD = 60, 5
#: One more than the faults that can fail a waiting call.
TRIES = 4


def gather(
    store: S3Store, lambda_client: Any, policy: Artifact, name: str, patch: pytest.MonkeyPatch
) -> Shard:
    """Have CartPole's episodes played with the operators' own code.

    A failed task is retried as Airflow does, because on a busy machine its one waiting call may
    fail.

    :return: all episodes
    """
    scene = Scene(experiment="cartpole_ppo", run=f"deliveries-{name}", env_id="CartPole-v1")
    job = Job(
        name="evaluate",
        policy=policy,
        first_seed=900_000_000,
        n_episodes=EPISODES,
        shard_episodes=SHARD,
    )
    plan = World().plan.model_copy(update={"ledger_key": None})  # no run, so no budget to check
    task = LambdaRunOperator(task_id="gather", plan=None, deferrable=False)
    patch.setattr(task, "_store", lambda plan: store)
    patch.setattr(task, "_evaluator", lambda plan: Evaluator(lambda_client, f"{FUNCTION}:live"))
    patch.setattr(LambdaEvaluationTrigger, "_files", lambda trigger: EvaluationFiles(store, scene))
    patch.setattr(lambda_operator, "QUIET_S", 4.0)  # two minutes in production
    for _ in range(TRIES - 1):
        try:
            return task._gather(plan, scene, [job], None).get_merged(job)
        except EvaluationFailedError as error:
            log.warning("tried again: %s", error)
    return task._gather(plan, scene, [job], None).get_merged(job)


def list_shards(store: S3Store, name: str) -> list[str]:
    """List the keys of an evaluation's shards."""
    return [
        item.key
        for item in store.list(shard_prefix("cartpole_ppo", f"deliveries-{name}", "evaluate"))
    ]
