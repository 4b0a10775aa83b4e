"""The forms of the DAGs: Params with sections, units and limits, and what a filled form means."""

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Param

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiments import Experiment

#: A variable that names the environment to work in when a form does not.
ENVIRONMENT_VARIABLE = "nightshift_environment"
DEFAULT_ENVIRONMENT = "dev"
ENVIRONMENT_PATTERN = "^([a-z][a-z0-9-]{0,19})?$"

#: Field of the retraining's form → the experiment's key that it overrides.
OVERRIDES = {
    "total_timesteps": "total_timesteps", "trials": "trials", "seed": "seed", "init_from": "init_from",
    "market": "compute.market", "max_hours": "compute.max_hours", "budget_usd": "compute.budget_usd",
    "alpha": "gate.alpha", "max_pairs": "evaluation.max_pairs", "approval": "approval"}


def environment_param(section: str = "Where") -> Param:
    """Which AWS environment; empty means the variable's, else `dev`."""
    return Param("", type="string", pattern=ENVIRONMENT_PATTERN, title="Environment", section=section,
                 description_md=f"Name of the bootstrapped environment. Empty: the Airflow variable `{ENVIRONMENT_VARIABLE}`, "
                                f"else `{DEFAULT_ENVIRONMENT}`.")


def region_param(section: str = "Where") -> Param:
    """Which region; empty means the credentials' own."""
    return Param("", type="string", pattern="^([a-z]{2}(-[a-z]+)+-[0-9])?$", title="AWS region", section=section,
                 description_md="Such as `eu-central-1`. Empty: as the worker is set up.")


def environment_of(params: Mapping[str, Any]) -> str:
    """Read the environment off a form, falling back to the variable, then to `dev`. For use in a task."""
    from airflow.sdk import Variable

    return str(params.get("environment") or Variable.get(ENVIRONMENT_VARIABLE, default=None) or DEFAULT_ENVIRONMENT)


def retraining_params(experiment: Experiment) -> dict[str, Param]:
    """The form of a retraining, filled with what the experiment's file says."""
    compute, evaluation, gate = experiment.compute, experiment.evaluation, experiment.gate
    return {
        "total_timesteps": Param(experiment.total_timesteps, type="integer", minimum=1, maximum=10**11, section="Training",
                                 title="Steps", description_md="Environment steps of each trial."),
        "trials": Param(experiment.trials, type="integer", minimum=1, maximum=100, section="Training", title="Trials",
                        description_md="Independent seeds, each on its own machine."),
        "seed": Param(experiment.seed, type="integer", minimum=0, maximum=2**31 - 1, section="Training", title="Seed",
                      description_md="Decides the trials' seeds, with the run's id unless the file says `reseed: false`."),
        "init_from": Param(experiment.init_from, type="string", enum=["scratch", "champion"], section="Training",
                           title="Begin from", description_md="`champion`: a warm start from its parameters."),
        "market": Param(compute.market, type="string", enum=["spot", "on-demand"], section="Machines", title="Market",
                        description_md="Spot costs about a third and may be interrupted, which loses at most one segment."),
        "max_hours": Param(compute.max_hours, type="number", exclusiveMinimum=0, maximum=168, section="Machines",
                           title="Hours per trial", description_md="All machines of a trial together; then it is stopped."),
        "budget_usd": Param(compute.budget_usd, type="number", exclusiveMinimum=0, maximum=100_000, section="Machines",
                            title="Budget in US dollars", description_md="For the whole run. Reserved before each launch, at "
                            "the highest on-demand price; refused when it does not fit."),
        "alpha": Param(gate.alpha, type="number", exclusiveMinimum=0, exclusiveMaximum=0.5, section="Gate",
                       title="False promotions", description_md="Probability of promoting a candidate that is not better."),
        "max_pairs": Param(evaluation.max_pairs, type="integer", minimum=40, maximum=20_000, section="Gate", title="Pairs",
                           description_md="Most pairs of episodes that the gate may look at."),
        "approval": Param(experiment.approval, type="boolean", section="Gate", title="Ask before promoting",
                          description_md="A person must approve in the UI (Required Actions). `airflow dags test` waits for "
                          "that answer, too."),
        "environment": environment_param(), "region_name": region_param(),
    }


def read_overrides(params: Mapping[str, Any], conf: Mapping[str, Any] | None, source: str) -> dict[str, Any]:
    """Turn a filled form into overrides of the experiment.

    :param conf: what the run was triggered with; a key that the form does not have is refused, not ignored.
    :raises InvalidExperimentError: naming the unknown key and what is allowed.
    """
    allowed = (*OVERRIDES, "environment", "region_name")
    for key in conf or {}:
        if key not in allowed:
            raise InvalidExperimentError(source, str(key), f"is no field of this DAG's form; allowed: {', '.join(allowed)}")
    return {key: params[field] for field, key in OVERRIDES.items() if field in params}
