"""The operator that checks the environment before a machine is rented."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.evaluation.evaluator import (
    scene_of,
)
from rl_airflow.evaluation.lambda_operator import LambdaRunOperator
from rl_airflow.machines.machine_advice import log_machines
from rl_airflow.run.run_resources import RunPlan
from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.evaluation.policies import SpaceForm
from rl_lifecycle.evaluation.requests import EnvironmentReport
from rl_lifecycle.evaluation.trainable_spaces import check_spaces
from rl_lifecycle.experiment.hyperparameters import check_segment, count_environments
from rl_lifecycle.experiment.settings.hyperparameter_checks import read_hyperparameters
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.experiment.wrappers import check_wrappers
from rl_lifecycle.machines.launch_requests import instance_types_of
from rl_lifecycle.machines.quotas import vcpus_of
from rl_lifecycle.machines.worker_counts import Parts, StepCosts, choose_workers

log = logging.getLogger(__name__)

#: Gymnasium colours its warnings for terminals.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class LambdaCheckEnvironmentOperator(LambdaRunOperator):
    """Check that the run's environment can be made, reset and stepped, also in each gate scenario.

    Refuses impossible wrappers and segments that are too short. A retry or a clear checks again.
    The task writes no files. In the first run of an experiment the log compares the machines.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Check. :return: the evaluator's report on the environment."""
        del context
        plan = self._plan()
        store = self._store(plan)
        spec = plan.get_spec(store)
        try:
            check_wrappers(spec.experiment, spec.hyperparameters)
        except InvalidExperimentError as error:
            raise AirflowFailException(str(error)) from None
        report = self._evaluator(plan).check_environment(scene_of(spec), spec=spec)
        if report.problem:
            raise AirflowFailException(
                f"experiments/{plan.experiment}.yaml: env_id: {report.problem}"
            )
        try:
            _check_spaces(spec, report)
        except InvalidExperimentError as error:
            raise AirflowFailException(str(error)) from None
        self._check_scenarios(plan, spec, report)
        try:
            check_segment(
                spec.experiment,
                spec.segment_timesteps,
                spec.hyperparameters,
                report.max_episode_steps,
            )
        except InvalidExperimentError as error:
            raise AirflowFailException(str(error)) from None
        for warning in report.warnings:
            log.warning("%s: %s", spec.experiment.env_id, COLOURS.sub("", warning))
        log.info(
            "%s: %s → %s, at most %s steps an episode",
            spec.experiment.env_id,
            _describe(report.observation_space),
            _describe(report.action_space),
            report.max_episode_steps,
        )
        log.info("%s", describe_workers(spec, report.steps_per_s))
        log_machines(spec, store, self._session(plan), report.steps_per_s or 0.0)
        return report.model_dump(mode="json")

    def _check_scenarios(self, plan: RunPlan, spec: Spec, base: EnvironmentReport) -> None:
        """Check the scenarios of the gate before the training costs money.

        :raises AirflowFailException: naming the scenario.
        """
        for name, scenario in spec.experiment.evaluation.scenarios.items():
            report = self._evaluator(plan).check_environment(scene_of(spec), scenario, spec)
            problem = report.problem
            if not problem and (report.observation_space, report.action_space) != (
                base.observation_space,
                base.action_space,
            ):
                problem = (
                    "has other spaces than the experiment's own environment, so no policy "
                    "could play both"
                )
            if problem:
                raise AirflowFailException(
                    f"experiments/{plan.experiment}.yaml: evaluation.scenarios.{name}: {problem}"
                )


def _check_spaces(spec: Spec, report: EnvironmentReport) -> None:
    """Refuse spaces that the trainer would refuse, before a machine is rented.

    :raises InvalidExperimentError: naming the key and the space.
    """
    experiment, source = spec.experiment, f"experiments/{spec.experiment.name}.yaml"
    check_spaces(
        experiment.algo,
        read_hyperparameters(experiment.algo, spec.hyperparameters, source),
        experiment.env_id,
        SpaceForm.from_value(report.observation_space, "check_environment"),
        SpaceForm.from_value(report.action_space, "check_environment"),
        source,
    )


def describe_workers(spec: Spec, steps_per_s: float | None) -> str:
    """Describe for the log how many processes will step the environments, and why.

    The trainer decides, because its machine may be faster or slower than the function.

    :param steps_per_s: of one environment, as the function measured it.
    """
    experiment = spec.experiment
    if experiment.compute.workers != "auto":
        return f"compute.workers: {experiment.compute.workers}"
    if not steps_per_s:
        return "compute.workers: auto"
    n_envs = count_environments(experiment.algo, spec.hyperparameters)
    sizes = sorted({vcpus_of(name) for name in instance_types_of(experiment.compute)})
    parts = Parts.of(n_envs, spec.shards, experiment.compute.machines)
    costs = StepCosts(parts.envs / steps_per_s)
    choices = {size: choose_workers(parts.number, size, costs) for size in sizes}
    likely = "; ".join(
        f"{choice.workers} on {size} vCPUs ({choice.reason})" for size, choice in choices.items()
    )
    return f"compute.workers: auto, which is likely to be {likely}"


def _describe(space: Mapping[str, Any]) -> str:
    """Describe a space in a few words, such as `Box [4]` or `Discrete 2`."""
    size = space.get("n") or list(space.get("shape") or ()) or ", ".join(space.get("spaces") or ())
    return f"{space.get('kind', '?')} {size}".strip()
