"""The values of a filled form: the environment, and the overridden keys of the experiment."""

from collections.abc import Mapping
from typing import Any

from rl_lifecycle.errors import InvalidExperimentError

#: The Airflow variable with the environment's name, for a form that leaves it empty.
ENVIRONMENT_VARIABLE = "nightshift_environment"
DEFAULT_ENVIRONMENT = "dev"

#: Field of the retraining's form → the experiment's key that it overrides.
OVERRIDES = {
    "total_timesteps": "total_timesteps",
    "trials": "trials",
    "seed": "seed",
    "init_from": "init_from",
    "market": "compute.market",
    "needed_by": "compute.needed_by",
    "max_hours": "compute.max_hours",
    "budget_usd": "compute.budget_usd",
    "alpha": "gate.alpha",
    "max_pairs": "evaluation.max_pairs",
    "approval": "approval",
    "approval_hours": "approval_hours",
}

#: The field of the retraining's form that leaves the champion out of the judging.
NEW_LINEAGE = "new_lineage"

#: Field of the bootstrap's form → the template's parameter that it sets. An empty field leaves what
#: is deployed.
TEMPLATE_PARAMETERS = {
    "image_parameter": "ImageId",
    "volume_gib": "VolumeGib",
    "vpc_cidr": "VpcCidr",
    "enable_session_manager": "EnableSessionManager",
    "kms_key_arn": "KmsKeyArn",
}


def environment_of(params: Mapping[str, Any]) -> str:
    """Read the environment from a form, else from the variable, else use `dev`. Only for tasks."""
    from airflow.sdk import Variable

    return str(
        params.get("environment")
        or Variable.get(ENVIRONMENT_VARIABLE, default=None)
        or DEFAULT_ENVIRONMENT
    )


def read_overrides(
    params: Mapping[str, Any], conf: Mapping[str, Any] | None, source: str
) -> dict[str, Any]:
    """Turn a filled form into overrides of the experiment.

    :param conf: the configuration of the trigger. A key that is no field of the form is refused.
    :raises InvalidExperimentError: naming the unknown key and what is allowed.
    """
    allowed = (*OVERRIDES, NEW_LINEAGE, "environment", "region_name")
    for key in conf or {}:
        if key not in allowed:
            raise InvalidExperimentError(
                source,
                str(key),
                f"is not a field of this DAG's form; allowed: {', '.join(allowed)}",
            )
    return {
        key: params[field] if params[field] != "" else None
        for field, key in OVERRIDES.items()
        if field in params
    }
