"""The settings of a deployment, from the command line or from a DAG's form."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from infra_bootstrap.errors import BadInputError
from infra_bootstrap.stacks.concerns import check_environment

LAMBDA_RUNTIMES = ("python3.11", "python3.12", "python3.13", "python3.14")
DEFAULT_LAMBDA_RUNTIME = "python3.12"
#: onnxruntime's wheels need glibc 2.28, and Lambda's python3.11 has 2.26. This runtime is for the
#: local AWS on a laptop that has Python 3.11.
#: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html
LAPTOP_RUNTIMES = ("python3.11",)
ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}")


@dataclass(frozen=True)
class DeploymentSettings:
    """The settings of one deployment. Only the environment is required.

    :param environment: its name, such as `dev`.
    :param airflow_role: name of the role that Airflow's workers run as. None means the deployed
        role, or `airflow-worker` if nothing is deployed.
    :param lambda_runtime: such as `python3.12`. None means the deployed runtime, or python3.12 if
        nothing is deployed.
    :param parameters: template parameters to set, by name. The others stay as they are.
    """

    environment: str
    airflow_role: str | None = None
    lambda_runtime: str | None = None
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        """Check the names. :raises BadInputError: if AWS would refuse one later."""
        check_environment(self.environment)
        if self.lambda_runtime is not None and self.lambda_runtime not in LAMBDA_RUNTIMES:
            raise BadInputError(
                f"--lambda-runtime {self.lambda_runtime!r}: choose one of "
                f"{', '.join(LAMBDA_RUNTIMES)}"
            )
        if self.airflow_role is not None and not ROLE_NAME.fullmatch(self.airflow_role):
            raise BadInputError(
                f"--airflow-role {self.airflow_role!r}: give the role's name, without a path, not "
                "its ARN"
            )

    @property
    def attaches_airflow_policy(self) -> bool:
        """Whether the policy of Airflow's role is attached, unless a deployed stack says no."""
        return self.parameters.get("AttachAirflowPolicy", "true") == "true"

    @property
    def command(self) -> str:
        """The command line that deploys with these settings, for messages."""
        words = ["python -m infra_bootstrap deploy --environment", self.environment]
        words += ["--airflow-role", self.airflow_role] if self.airflow_role else []
        words += ["--lambda-runtime", self.lambda_runtime] if self.lambda_runtime else []
        words += [f"--parameter {name}={value}" for name, value in self.parameters.items()]
        return " ".join(words)
