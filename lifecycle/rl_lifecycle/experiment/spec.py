"""The frozen spec of a run: everything that decides what is trained.

It is fixed before the first machine is requested.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, JsonValue

from rl_lifecycle.errors import InvalidExperimentError, InvalidRecordError
from rl_lifecycle.experiment.due_times import needed_at
from rl_lifecycle.experiment.experiment import Experiment, read_experiment
from rl_lifecycle.experiment.hyperparameters import (
    count_environments,
    resolve_hyperparameters,
    rollout_timesteps,
    segment_timesteps,
)
from rl_lifecycle.experiment.seeds import (
    Purpose,
    SeedRange,
    check_no_overlap,
    first_seed,
)
from rl_lifecycle.experiment.settings.hyperparameter_checks import freeze_hyperparameters
from rl_lifecycle.experiment.settings.machine_counts import check_machines
from rl_lifecycle.experiment.settings.shards import freeze_shards
from rl_lifecycle.experiment.trial_plans import TrialPlan, plan_trials
from rl_lifecycle.records.names import slug
from rl_lifecycle.records.record import Record, sha256_hex
from rl_lifecycle.storage.layout import TrialId


class WheelSet(Record):
    """The wheels of one environment: their Python version and their digests.

    A wheel lies at `artifacts/<sha256>/<file_name>`. The set itself lies as JSON at
    `artifacts/<sha256>/wheels.json`.
    """

    schema_version: Literal[1] = 1
    python: str = Field(pattern=r"^3\.\d+$")
    wheels: dict[str, str] = Field(description="file name → SHA-256")


class Artifact(Record):
    """A file in the bucket, by key and digest."""

    key: str
    sha256: str


class Champion(Record):
    """The champion at the time when the run was frozen. The candidate is compared with it."""

    version: int
    etag: str = Field(description="ETag of champion.json; a promotion needs the same ETag")
    digest: str = Field(description="digest of its parameters and normalisation statistics")
    policy: Artifact
    parameters: Artifact
    new_lineage: str = Field(
        "", description="why a candidate cannot be compared with it; empty when it can"
    )


class Replay(Record):
    """The part of a version that a run trains again, to compare the digests."""

    experiment: str
    version: int
    step: int
    digest: str


class EvaluatorVersion(Record):
    """The versions of the functions that play and judge a run. Such a version never changes."""

    function: str = Field(description="ARN of the dispatcher, with its version")
    player: str = Field(description="ARN of the player, with its version")
    judge: str = Field(description="ARN of the judge, with its version")
    label: str = Field(description="digests of their code, of their libraries and of all settings")


class Spec(Record):
    """A frozen run. The SHA-256 of its bytes names it in every checkpoint and every version."""

    schema_version: Literal[1] = 1
    run: str
    run_id: str = Field(description="Airflow's dag run id, or the name that a person chose")
    created_at: datetime
    experiment: Experiment
    hyperparameters: dict[str, JsonValue]
    segment_timesteps: int
    trials: tuple[TrialPlan, ...]
    selection_first_seed: int
    gate_first_seed: int
    trainer: Artifact | None = Field(None, description="the trainer's wheel set; None on a laptop")
    requirements: tuple[Artifact, ...] = ()
    image_id: str | None = Field(None, description="AMI; None on a laptop")
    launch_template: str | None = Field(None, description="<id>:<version>")
    commit: str | None = Field(
        None,
        description="version of the DAG bundle that froze it; without one the git commit of the "
        "project, `+dirty` when changed",
    )
    champion: Champion | None = None
    replay: Replay | None = Field(
        None, description="only for a replay, which ends as soon as its policy of that step exists"
    )
    # It is left out while it is None, so that specs which were frozen without it keep their digest.
    evaluator: EvaluatorVersion | None = Field(
        None,
        description="what plays and judges the run; None: the version in service",
        exclude_if=lambda value: value is None,
    )
    instance_profile_arn: str | None = Field(
        None,
        description="the experiment's own instance profile; None: that of the launch template",
        exclude_if=lambda value: value is None,
    )
    gang_launch_template: str | None = Field(
        None,
        description="<id>:<version> for trials with several machines; None: each has one",
        exclude_if=lambda value: value is None,
    )
    shards: int = Field(
        1,
        ge=1,
        description="groups of environments that are collected on their own; they decide the bytes",
        exclude_if=lambda value: value == 1,
    )

    def trial(self, name: str) -> TrialPlan:
        """Get a trial by its name.

        :raises InvalidRecordError: if the run has no trial of this name.
        """
        for plan in self.trials:
            if plan.name == name:
                return plan
        known = ", ".join(plan.name for plan in self.trials)
        raise InvalidRecordError(f"trial {name}", f"the run has no such trial; it has {known}")

    def trial_id(self, name: str) -> TrialId:
        """The place of a trial in the bucket."""
        return TrialId(self.experiment.name, self.run, self.trial(name).name)

    def seats_of(self, name: str) -> tuple[TrialId, ...]:
        """The places of a trial's machines, the learner's first."""
        trial = self.trial_id(name)
        return tuple(trial.at_seat(seat) for seat in range(self.experiment.compute.machines))

    @property
    def seats(self) -> tuple[TrialId, ...]:
        """The places of all machines of the run."""
        return tuple(seat for plan in self.trials for seat in self.seats_of(plan.name))

    def with_launch_template(self, launch_template: str) -> Self:
        """The same run on machines of another launch template, `<id>:<version>`."""
        return self.model_copy(update={"launch_template": launch_template})

    def with_instance_profile(self, arn: str | None) -> Self:
        """The same run on machines of another instance profile; None: the launch template's."""
        return self.model_copy(update={"instance_profile_arn": arn})

    def as_replay(
        self,
        replay: Replay,
        *,
        run_id: str,
        created_at: datetime,
        experiment: Experiment,
        trial: TrialPlan,
    ) -> Self:
        """The run that trains one trial of this run again, for a comparison.

        :param experiment: the experiment that replays belong to.
        """
        return self.model_copy(
            update={
                "run": slug(f"{replay.experiment}-{run_id}"),
                "run_id": run_id,
                "created_at": created_at,
                "experiment": experiment,
                "trials": (trial,),
                "replay": replay,
                "evaluator": None,
                "instance_profile_arn": None,
                "gang_launch_template": None,
            }
        )

    @property
    def n_segments(self) -> int:
        """The number of segments. A rest of less than half a segment belongs to the last one."""
        return max(
            1,
            (2 * self.experiment.total_timesteps + self.segment_timesteps)
            // (2 * self.segment_timesteps),
        )

    @property
    def due_at(self) -> datetime | None:
        """When the result is needed. None means that there is no such time."""
        return needed_at(self.experiment.compute.needed_by, self.created_at)

    @property
    def sha256(self) -> str:
        """The digest that names the spec."""
        return sha256_hex(self.to_json())


class FrozenTraining(NamedTuple):
    """What decides the bytes of a training, as a spec holds it."""

    hyperparameters: dict[str, Any]
    segment_timesteps: int
    shards: int


def freeze_spec(
    experiment: Experiment,
    *,
    run_id: str,
    created_at: datetime,
    overrides: Mapping[str, Any] | None = None,
    trainer: Artifact | None = None,
    requirements: tuple[Artifact, ...] = (),
    image_id: str | None = None,
    launch_template: str | None = None,
    commit: str | None = None,
    champion: Champion | None = None,
    source: str | None = None,
    evaluator: EvaluatorVersion | None = None,
    instance_profile_arn: str | None = None,
    gang_launch_template: str | None = None,
) -> Spec:
    """Freeze a run: check hyper-parameters, round the segment, draw the seeds.

    :param run_id: Airflow's dag run id. It decides the seeds, unless the experiment has `reseed:
        false`.
    :param created_at: an aware UTC datetime.
    :param overrides: keys of the experiment that this run changes, for example `total_timesteps`
        from a form. None means that it changes nothing.
    :param gang_launch_template: the launch template for trials with several machines. None means
        that the environment has none; it is not needed for trials with one machine.
    :param source: the experiment's file in error messages. None means `experiments/<name>.yaml`.
    :raises InvalidExperimentError: if an override or a hyper-parameter is not allowed.
    """
    if created_at.tzinfo is None:
        raise InvalidExperimentError("freeze_spec", "created_at", "must be an aware UTC datetime")
    if overrides:
        experiment = _override(experiment, overrides)
    _refuse_past(experiment, created_at)
    source = source or f"experiments/{experiment.name}.yaml"
    training = check_training(experiment, source)
    run = slug(run_id)
    return Spec(
        run=run,
        run_id=run_id,
        created_at=created_at,
        experiment=experiment,
        hyperparameters=training.hyperparameters,
        segment_timesteps=training.segment_timesteps,
        trials=plan_trials(experiment, run),
        selection_first_seed=first_seed(Purpose.SELECTION, experiment.name, run),
        gate_first_seed=first_seed(Purpose.GATE, experiment.name, run),
        trainer=trainer,
        requirements=requirements,
        image_id=image_id,
        launch_template=launch_template,
        commit=commit,
        champion=champion,
        evaluator=evaluator,
        instance_profile_arn=instance_profile_arn,
        gang_launch_template=gang_launch_template if experiment.compute.machines > 1 else None,
        shards=training.shards,
    )


def check_training(experiment: Experiment, source: str) -> FrozenTraining:
    """Check what decides the bytes of a training: hyper-parameters, segment, shards and machines.

    It needs no network, so a file is checked before a run begins.

    :param source: the experiment's file in error messages.
    :raises InvalidExperimentError: with the first key that is wrong, and what is allowed there.
    """
    hyperparameters = freeze_hyperparameters(
        experiment.algo, resolve_hyperparameters(experiment, source), source
    )
    rollout = rollout_timesteps(experiment.algo, hyperparameters, source)
    n_envs = count_environments(experiment.algo, hyperparameters, source)
    compute = experiment.compute
    shards = freeze_shards(
        experiment.shards, experiment.algo, hyperparameters, source, compute.machines
    )
    check_machines(compute, experiment.algo, shards, n_envs, source)
    return FrozenTraining(
        hyperparameters, segment_timesteps(experiment.checkpoint_every, rollout), shards
    )


def _refuse_past(experiment: Experiment, created_at: datetime) -> None:
    due_at = needed_at(experiment.compute.needed_by, created_at)
    if due_at is not None and due_at <= created_at:
        raise InvalidExperimentError(
            f"run of {experiment.name}",
            "compute.needed_by",
            f"{due_at:%Y-%m-%d %H:%M} UTC is in the past: choose a later moment, a time of day, "
            "or leave it out",
        )


def check_fresh_seeds(spec: Spec, earlier_runs: Iterable[str]) -> None:
    """Refuse a run whose selection or gate would use seeds of an earlier run of the experiment.

    :param earlier_runs: the slugs of earlier runs, from the keys under specs/. Their seeds follow
        from their names. Each earlier run is assumed to have as many episodes as this run may have.
    :raises OverlappingSeedsError: if seeds overlap. Another run id draws other seeds, so trigger
        the DAG again.
    """
    evaluation, name = spec.experiment.evaluation, spec.experiment.name
    for purpose, first, n in (
        (Purpose.SELECTION, spec.selection_first_seed, evaluation.selection_episodes),
        (Purpose.GATE, spec.gate_first_seed, evaluation.max_pairs),
    ):
        served = {
            f"the {purpose} of run {run}": SeedRange(
                first_seed=first_seed(purpose, name, run), n_episodes=n
            )
            for run in earlier_runs
            if run != spec.run
        }
        check_no_overlap(
            SeedRange(first_seed=first, n_episodes=n), f"the {purpose} of run {spec.run}", served
        )


def _override(experiment: Experiment, overrides: Mapping[str, Any]) -> Experiment:
    document = experiment.model_dump(mode="json", exclude={"name"})
    for key, value in overrides.items():
        section, _, leaf = key.partition(".")
        if leaf and isinstance(document.get(section), dict):
            document[section][leaf] = value
        else:
            document[key] = value
    return read_experiment(document, experiment.name, source=f"run of {experiment.name}")
