"""The forms of the DAGs: Params with sections, units and limits."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from airflow.sdk import Param

from rl_airflow.infrastructure.form_values import (
    DEFAULT_ENVIRONMENT,
    ENVIRONMENT_VARIABLE,
    NEW_LINEAGE,
)
from rl_airflow.run.schedules import describe_nights
from rl_lifecycle.experiment.compute_settings import Compute
from rl_lifecycle.experiment.evaluation_settings import Evaluation, GateSettings
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.experiment.seeds import LONGEST, SPAN
from rl_lifecycle.machines.machine_estimates import describe_best_case
from rl_lifecycle.records.record import Record
from rl_lifecycle.storage.layout import BUNDLE_PATTERN

ENVIRONMENT_PATTERN = "^([a-z][a-z0-9-]{0,19})?$"
KEEP = "Empty: the deployed value, or else the default"
#: The only section that Airflow's form opens at the start. Each field that must be filled is here,
#: because *Trigger* is grey until then. Source: `flexibleFormDefaultSection` in ConfigForm.tsx of
#: Airflow's UI.
OPEN_SECTION = "Run Parameters"

#: pydantic's limits → JSON schema's words for them.
LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def limits_of(section: type[Record], key: str) -> dict[str, Any]:
    """Return the limits of a key of the experiment, as JSON schema for a field of a form.

    >>> limits_of(GateSettings, "alpha"), limits_of(Evaluation, "max_pairs")
    ({'exclusiveMinimum': 0, 'exclusiveMaximum': 0.5}, {'minimum': 40, 'maximum': 20000})
    """
    return {
        LIMITS[name]: value
        for limit in section.model_fields[key].metadata
        for name, value in dataclasses.asdict(limit).items()
    }


def environment_param(section: str = "Where") -> Param:
    """Return the field for the AWS environment. Empty: the variable's value, or else `dev`."""
    return Param(
        None,
        type=["null", "string"],
        pattern=ENVIRONMENT_PATTERN,
        title="Environment",
        section=section,
        description_md="Name of the bootstrapped environment. Empty: the Airflow variable "
        f"`{ENVIRONMENT_VARIABLE}`, "
        f"else `{DEFAULT_ENVIRONMENT}`.",
    )


def region_param(section: str = "Where") -> Param:
    """Return the field for the AWS region. Empty means the region of the credentials."""
    # Airflow's form takes an empty string for a missing value and blocks the trigger. It accepts
    # null.
    return Param(
        None,
        type=["null", "string"],
        pattern="^([a-z]{2}(-[a-z]+)+-[0-9])?$",
        title="AWS region",
        section=section,
        description_md="For example `eu-central-1`. Empty: the worker's own region.",
    )


def retraining_params(experiment: Experiment) -> dict[str, Param]:
    """Return the form of a retraining, filled with the values of the experiment's file."""
    compute, evaluation, gate = experiment.compute, experiment.evaluation, experiment.gate
    return {
        "needed_by": Param(
            compute.needed_by,
            type=["null", "string"],
            section=OPEN_SECTION,
            title="Needed by",
            pattern=r"^$|^([01]\d|2[0-3]):[0-5]\d$|^\d{4}-\d\d-\d\dT\d\d:\d\d",
            description_md="`HH:MM` in UTC, or a time such as `2026-12-01T06:00Z`. When spot "
            "no longer leaves enough time, on-demand machines are used. Empty: no time limit."
            f"\n\n{describe_nights(experiment.schedule)}",
        ),
        "total_timesteps": Param(
            experiment.total_timesteps,
            type="integer",
            **limits_of(Experiment, "total_timesteps"),
            section="Training",
            title="Steps",
            description_md="Environment steps of each trial.",
        ),
        "trials": Param(
            experiment.trials,
            type="integer",
            **limits_of(Experiment, "trials"),
            section="Training",
            title="Trials",
            description_md="Independent seeds, each on its own machine.",
        ),
        "seed": Param(
            experiment.seed,
            type="integer",
            minimum=0,
            maximum=2**31 - 1,
            section="Training",
            title="Seed",
            description_md="The trials' seeds are derived from it and from the run's id. With "
            "`reseed: false` in the file the run's id is not used.",
        ),
        "init_from": Param(
            experiment.init_from,
            type="string",
            enum=["scratch", "champion"],
            section="Training",
            title="Begin from",
            description_md="`champion`: start from the champion's parameters.",
        ),
        "market": Param(
            compute.market,
            type="string",
            enum=["spot", "on-demand"],
            section="Machines",
            title="Market",
            description_md="Spot costs about a third and may be interrupted, which loses at most "
            "one segment.",
        ),
        "max_hours": Param(
            compute.max_hours,
            type="number",
            **limits_of(Compute, "max_hours"),
            section="Machines",
            title="Hours per trial",
            description_md="Limit for all machines of a trial together. Then the trial is stopped."
            f"\n\n{describe_machines(compute)}",
        ),
        "budget_usd": Param(
            compute.budget_usd,
            type="number",
            **limits_of(Compute, "budget_usd"),
            section="Machines",
            title="Budget in US dollars",
            description_md="For the whole run. Each launch reserves its cost at the highest "
            "on-demand price. A launch that exceeds the budget is refused.",
        ),
        "alpha": Param(
            gate.alpha,
            type="number",
            **limits_of(GateSettings, "alpha"),
            section="Gate",
            title="False promotions",
            description_md="Probability of promoting a candidate that is not better.",
        ),
        "max_pairs": Param(
            evaluation.max_pairs,
            type="integer",
            **limits_of(Evaluation, "max_pairs"),
            section="Gate",
            title="Pairs",
            description_md="Largest number of pairs of episodes for the gate.",
        ),
        NEW_LINEAGE: Param(
            False,
            type="boolean",
            section="Gate",
            title="Judge without the champion",
            description_md="For a champion that can no longer be played: the candidate is judged "
            "by `evaluation.first_champion_above`, as a first champion is. The champion stays in "
            "service until a candidate passes.",
        ),
        "approval": Param(
            experiment.approval,
            type="boolean",
            section="Gate",
            title="Ask before promoting",
            description_md="A person must approve in the UI (Required Actions). `airflow dags "
            "test` waits for the answer, too. If the experiment's file asks for approval, you "
            "cannot switch it off here.",
        ),
        "approval_hours": Param(
            experiment.approval_hours,
            type="number",
            **limits_of(Experiment, "approval_hours"),
            section="Gate",
            title="Hours to approve",
            description_md="Without an answer within this time nothing is promoted.",
        ),
        "environment": environment_param(),
        "region_name": region_param(),
    }


def describe_machines(compute: Compute) -> str:
    """Describe what the file says about processes and machines, and where the reasons are.

    What a step costs is in the bucket, which is not read while a DAG file is parsed. So the figures
    here are those of the table of prices.
    """
    best_case = describe_best_case(compute)
    return (
        f"The file has `compute.workers: {compute.workers}` and `compute.machines: "
        f"{compute.machines}`. The log of `freeze_spec` shows for each machine the number of "
        "processes, hours, steps per dollar and the reason, from the speed of the last run. In a "
        "first run, `check_environment` logs them. More cores buy hours, and rarely steps per "
        "dollar" + (f": {best_case}." if best_case else ".")
    )


def bootstrap_params() -> dict[str, Param]:
    """Return the form of the bootstrap. All fields may be empty."""
    return {
        "environment": environment_param(),
        "region_name": region_param(),
        "airflow_role_name": Param(
            None,
            type=["null", "string"],
            pattern=r"^[\w+=,.@-]{0,64}$",
            section="Who",
            title="Airflow's role",
            description_md=f"Name of the role that Airflow's workers run as. {KEEP} "
            "`airflow-worker`.",
        ),
        "lambda_runtime": Param(
            None,
            type=["null", "string"],
            enum=[None, "python3.11", "python3.12", "python3.13", "python3.14"],
            section="Evaluation",
            title="Lambda's Python",
            description_md=f"{KEEP} `python3.12`.",
        ),
        "image_parameter": Param(
            None,
            type=["null", "string"],
            pattern="^(/[A-Za-z0-9_./-]+)?$",
            section="Machines",
            title="Machine image",
            description_md=f"SSM parameter that names the image. {KEEP}: AWS's deep-learning AMI.",
        ),
        "volume_gib": Param(
            None,
            type=["null", "integer"],
            minimum=8,
            maximum=16384,
            section="Machines",
            title="Volume in GiB",
            description_md=f"{KEEP} 100.",
        ),
        "enable_session_manager": Param(
            None,
            type=["null", "string"],
            enum=[None, "true", "false"],
            section="Machines",
            title="Session Manager",
            description_md="Allows shell access to machines, for about 22 USD per month and zone. "
            f"{KEEP} `false`.",
        ),
        "vpc_cidr": Param(
            None,
            type=["null", "string"],
            pattern=r"^(\d{1,3}(\.\d{1,3}){3}/1[678])?$",
            section="Network",
            title="Address range",
            description_md=f"Private, /16 to /18. {KEEP} `10.64.0.0/16`.",
        ),
        "kms_key_arn": Param(
            None,
            type=["null", "string"],
            pattern="^(arn:.+)?$",
            section="Storage",
            title="KMS key",
            description_md=f"ARN of the bucket's own key. {KEEP}: S3-managed encryption.",
        ),
    }


def experiment_param(known: Sequence[str]) -> Param:
    """Return the field for the experiment's name.

    :param known: the names that the form proposes. Another one may be typed: the versions of an
        experiment stay in the registry when its file is gone.
    """
    return Param(
        "",
        type="string",
        examples=list(known),
        minLength=1,
        maxLength=100,
        pattern="^[a-z0-9]([a-z0-9_-]{0,98}[a-z0-9])?$",
        title="Experiment",
        section=OPEN_SECTION,
        description_md="The name of its file, without `.yaml`.",
    )


def reaping_params() -> dict[str, Param]:
    """Return the form of the reaper."""
    return {
        "dry_run": Param(
            False,
            type="boolean",
            title="Only list",
            section="How",
            description_md="Ends no machine.",
        ),
        "dry_first_time": Param(
            True,
            type="boolean",
            title="Only list the first time",
            section="How",
            description_md="Ends no machine until one run has succeeded.",
        ),
        "environment": environment_param(),
        "region_name": region_param(),
    }


def destroying_params() -> dict[str, Param]:
    """Return the form of the deletion. The environment has no default: you must type it twice."""
    return {
        "environment": Param(
            "",
            type="string",
            minLength=1,
            pattern="^[a-z][a-z0-9-]{0,19}$",
            title="Environment",
            section=OPEN_SECTION,
            description_md="Name of the environment to delete.",
        ),
        "confirm": Param(
            "",
            type="string",
            minLength=1,
            title="The same name again",
            section=OPEN_SECTION,
            description_md="Confirms the deletion.",
        ),
        "region_name": region_param(),
    }


def rollback_params(known: Sequence[str]) -> dict[str, Param]:
    """Return the form of a rollback.

    :param known: the experiments that the form proposes.
    """
    return {
        "experiment": experiment_param(known),
        "version": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Version",
            section=OPEN_SECTION,
            description_md="The version to put back into service. Empty: choose from the existing "
            "versions in *Required Actions*.",
        ),
        "only_list": Param(
            False,
            type="boolean",
            title="Only list",
            section=OPEN_SECTION,
            description_md="Log the versions and the history, and change nothing.",
        ),
        "reason": Param(
            "",
            type="string",
            format="multiline",
            minLength=3,
            pattern=r"\S[\s\S]+\S",
            title="Reason",
            section=OPEN_SECTION,
            description_md="Written into the history.",
        ),
        "environment": environment_param(),
        "region_name": region_param(),
    }


def replaying_params(
    experiment: Experiment | None = None, known: Sequence[str] = ()
) -> dict[str, Param]:
    """Return the form of a replay.

    :param experiment: the experiment of the DAG. None: the form asks for it.
    :param known: the experiments that the form proposes.
    """
    asked = {} if experiment is not None else {"experiment": experiment_param(known)}
    return {
        **asked,
        "version": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Version",
            section=OPEN_SECTION,
            description_md="A version of the registry. Empty: the champion.",
        ),
        "segments": Param(
            experiment.replay_segments if experiment else 1,
            type="integer",
            **limits_of(Experiment, "replay_segments"),
            title="Segments",
            section="How",
            description_md="Number of segments to train before the digests are compared.",
        ),
        "environment": environment_param(),
        "region_name": region_param(),
    }


def importing_params(known: Sequence[str]) -> dict[str, Param]:
    """Return the form of an import.

    :param known: the experiments that the form proposes.
    """
    return {
        "experiment": experiment_param(known),
        "bundle": Param(
            "",
            type="string",
            pattern=BUNDLE_PATTERN,
            title="Uploaded policy",
            section=OPEN_SECTION,
            description_md="The key that `python -m infra_bootstrap upload-policy` printed.",
        ),
        "origin": Param(
            "",
            type="string",
            format="multiline",
            minLength=3,
            pattern=r"\S[\s\S]+\S",
            section=OPEN_SECTION,
            title="Where it comes from",
            description_md="Who trained the policy, with what software, on what data. Written into "
            "the manifest and the model card.",
        ),
        "environment": environment_param(),
        "region_name": region_param(),
    }


def evaluating_params(known: Sequence[str]) -> dict[str, Param]:
    """Return the form of an evaluation.

    :param known: the experiments that the form proposes.
    """
    return {
        "experiment": experiment_param(known),
        "version": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Version",
            section=OPEN_SECTION,
            description_md="A version of the registry. Empty: the champion.",
        ),
        "n_episodes": Param(
            100,
            type="integer",
            minimum=1,
            maximum=20_000,
            title="Episodes",
            section="How",
            description_md="One episode per seed.",
        ),
        "first_seed": Param(
            SPAN - LONGEST,
            type="integer",
            minimum=0,
            maximum=2**31 - 20_001,
            title="First seed",
            section="How",
            description_md="Selection and gate never use the default and the seeds after it.",
        ),
        "environment": environment_param(),
        "region_name": region_param(),
    }


def drill_params() -> dict[str, Param]:
    """Return the form of the drill."""
    return {
        "objective_s": Param(
            300,
            type="number",
            exclusiveMinimum=0,
            maximum=3600,
            title="Objective in seconds",
            section="How",
            description_md="From the termination to the first new step on another machine.",
        ),
        "environment": environment_param(),
        "region_name": region_param(),
    }
