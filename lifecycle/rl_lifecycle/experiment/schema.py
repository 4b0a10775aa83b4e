"""The JSON schema of an experiment file, with which editors complete and check it.

`python -m rl_lifecycle schema` prints it. It is made from the models in
:mod:`rl_lifecycle.experiment.experiment`, which decide what is allowed. The schema cannot express
rules about two keys at once.
"""

from typing import Any

from rl_lifecycle.experiment.algorithms import algorithm_names
from rl_lifecycle.experiment.experiment import ENV_ID, Experiment

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: An integer with underscores. Our reader uses YAML 1.1, where it is a number. Editors use YAML
#: 1.2, where it is a text.
SPACED_INTEGER = r"^[0-9]{1,3}(_[0-9]{3})+$"
#: Descriptions that the models do not have, by model and key.
DESCRIPTIONS = {
    "Experiment": {
        "env_id": (
            "Gymnasium id of the environment, or package:Env-v0 from a wheel named under "
            "requirements"
        ),
        "env_kwargs": "arguments with which the environment is made",
        "algo": "algorithm, as SB3 and sb3-contrib name it, in lower case",
        "total_timesteps": "environment steps of each trial",
        "hyperparameters": (
            "zoo: rl_zoo3's tuned values for this pair; or a mapping in rl_zoo3's own keys"
        ),
        "trials": "independent seeds, each on its own machine",
        "seed": "number from which the seeds of the trials are drawn",
        "init_from": "champion: start from the champion's parameters",
        "compute": "the machines that may be rented, and for how much",
        "evaluation": "how a policy is judged",
        "gate": "how sure the gate must be before it promotes a candidate",
        "early_stop": "when a trial ends before its last step",
        "approval": "true: a person must agree before a candidate is promoted",
    },
    "Compute": {
        "instance_types": (
            "auto, or a list of EC2 instance types; the cheapest that has capacity is taken"
        ),
        "market": "spot is cheaper, and AWS may take the machine away",
    },
    "Scenario": {
        "env_kwargs": "arguments that differ from those of the experiment",
        "perturbation": "what disturbs the observations and actions",
    },
    "Evaluation": {
        "return_range": "lowest and highest return of an episode; choose the tightest honest floor",
        "crash_below": "return below which an episode counts as crashed",
        "deterministic": "false: actions are sampled from the policy's distribution",
        "scenarios": (
            "variations of the environment, by name; a candidate must not crash more often in any"
        ),
    },
}
#: Narrower forms and examples, by model and key.
FORMS: dict[str, dict[str, dict[str, Any]]] = {
    "Experiment": {
        "env_id": {"pattern": f"^({ENV_ID.pattern})$", "examples": ["LunarLander-v3"]},
        "algo": {"enum": list(algorithm_names())},
        "total_timesteps": {"examples": [1_000_000]},
        "hyperparameters": {"examples": ["zoo", {"learning_rate": 0.0003, "n_envs": 8}]},
        "requirements": {"examples": [["wheels/acme_envs-1.0-py3-none-any.whl"]]},
        "schedule": {"examples": ["0 2 * * *", "@daily", None]},
        "replay_schedule": {"examples": ["0 6 * * 0", None]},
    },
    "Compute": {
        "instance_types": {"examples": ["auto", ["c7i.large", "c6i.large"]]},
        "needed_by": {"examples": ["06:30", "2026-12-01T06:00Z"]},
        "workers": {"examples": ["auto", 4]},
    },
    "Evaluation": {"return_range": {"examples": [[0, 500]]}},
}


def experiment_schema() -> dict[str, Any]:
    """Make the schema of an experiment file.

    The key `name` is left out, because the name is the stem of the file.
    """
    made = Experiment.model_json_schema()
    models: dict[str, dict[str, Any]] = {"Experiment": made, **made.pop("$defs")}
    for name, model in models.items():
        model.pop("title", None)
        properties: dict[str, dict[str, Any]] = model.get("properties", {})
        properties.pop("name", None)
        for key, form in properties.items():
            form.pop("title", None)
            if described := DESCRIPTIONS.get(name, {}).get(key):
                form["description"] = described
            form.update(FORMS.get(name, {}).get(key, {}))
            properties[key] = _with_spaced_integers(form)
    made["required"].remove("name")
    definitions = {name: model for name, model in models.items() if name != "Experiment"}
    return {
        "$schema": DIALECT,
        "title": "An experiment of Nightshift",
        **made,
        "description": "An environment, an algorithm, a budget and a gate. See docs/guide.md.",
        "$defs": definitions,
    }


def _with_spaced_integers(form: dict[str, Any]) -> dict[str, Any]:
    """Allow to write an integer as 1_000_000."""
    if form.get("type") != "integer":
        return form
    limits = {
        key: form.pop(key)
        for key in ("type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        if key in form
    }
    return {"anyOf": [limits, {"type": "string", "pattern": SPACED_INTEGER}], **form}
