"""The deployed functions, and wheels whose environments do what a test writes into them."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from infra_bootstrap.artifacts.files import ArtifactFile
from infra_bootstrap.artifacts.functions import build_functions
from infra_bootstrap.artifacts.locks import Target
from infra_bootstrap.artifacts.sets import ArtifactSet
from infra_bootstrap.artifacts.uploads import upload
from infra_bootstrap.clients import Clients
from infra_bootstrap.stacks.concerns import role_name
from rl_lifecycle.experiment.spec import Artifact, WheelSet
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import artifact_key
from tests.evaluator.policy_files import policy_for_id
from tests.infra_bootstrap.accounts import PYTHON, Deployment

#: An environment of a wheel. ATTACK runs whenever an episode begins, and what it returns or raises
#: is printed into the player's log and given back as the warning of a check.
ENVIRONMENT = """
import warnings
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

def attack():
{attack}

class Foreign(CartPoleEnv):
    def reset(self, **arguments):
        try:
            found = attack()
        except BaseException as error:
            found = f"{{type(error).__name__}}: {{error}}"
        warnings.warn("ATTACK " + str(found))
        return super().reset(**arguments)

gymnasium.register("Foreign-v0", entry_point=Foreign, max_episode_steps=20)
"""


def wheel_that(attack: str, name: str = "foreign") -> bytes:
    """Make a wheel whose environment `foreign:Foreign-v0` runs some lines at each reset."""
    body = "\n".join("    " + line for line in attack.strip().splitlines())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{name}/__init__.py", ENVIRONMENT.format(attack=body))
        archive.writestr(
            f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n"
        )
    return buffer.getvalue()


class FunctionsUnderTest(Deployment):
    """An environment with the real dispatcher, player and judge."""

    def upload(self, clients: Clients, _code: str) -> ArtifactSet:
        """Upload the functions and their layer, which are built or come from the cache."""
        launcher = clients.assume(
            clients.role_arn(role_name(self.settings.environment, "launcher"))
        )
        built = build_functions(Target(PYTHON))
        wheels = WheelSet(python=PYTHON, wheels={}).to_json()
        digest = sha256_hex(wheels)
        wheel_set = ArtifactFile(artifact_key(digest, "wheels.json"), digest, data=wheels)
        files = [built.evaluator, built.layer, built.reaper, wheel_set]
        upload(launcher.s3, self.bucket, files)
        code, layer, reaper, wheel_artifact = (
            Artifact(key=file.key, sha256=file.sha256) for file in files
        )
        return ArtifactSet(
            trainer_wheels=wheel_artifact,
            trainer_python=PYTHON,
            evaluator_code=code,
            evaluator_layer=layer,
            reaper_code=reaper,
            lambda_runtime=f"python{PYTHON}",
            unzipped_bytes=built.unzipped_bytes,
        )

    def artifact(self, name: str, data: bytes) -> Artifact:
        """Upload a file as the launcher."""
        digest = sha256_hex(data)
        file = ArtifactFile(artifact_key(digest, name), digest, data=data)
        upload(self.as_role("launcher").s3, self.bucket, [file])
        return Artifact(key=file.key, sha256=digest)

    def wheel(self, attack: str) -> Artifact:
        """Upload a wheel whose environment runs some lines at each reset."""
        return self.artifact("foreign-1-py3-none-any.whl", wheel_that(attack))

    def policy(self) -> Artifact:
        """Upload a policy for CartPole."""
        return self.artifact("policy.onnx", policy_for_id("CartPole-v1"))

    def ask(self, request: dict[str, Any], role: str = "airflow-worker") -> dict[str, Any]:
        """Ask the dispatcher, and wait.

        :return: the answer, or `errorType` and `errorMessage`
        """
        answer = (
            self.as_role(role)
            .client("lambda")
            .invoke(FunctionName="nightshift-dev-evaluator:live", Payload=json.dumps(request))
        )
        return dict(json.loads(answer["Payload"].read()))

    def check(self, experiment: str, wheel: Artifact) -> list[str]:
        """Let the player check an environment. :return: what its attack found at each reset."""
        report = self.ask(
            {
                "action": "check_environment",
                "experiment": experiment,
                "env_id": "foreign:Foreign-v0",
                "requirements": [wheel.model_dump()],
            }
        )
        assert "warnings" in report, report
        return [line.partition("ATTACK ")[2] for line in report["warnings"] if "ATTACK " in line]

    def evaluate(
        self, experiment: str, wheel: Artifact | None, policy: Artifact, **changes: Any
    ) -> dict[str, Any]:
        """Let the player evaluate a policy."""
        return self.ask(
            {
                "action": "evaluate",
                "experiment": experiment,
                "run": "night-1",
                "name": "gate-candidate",
                "shard": 0,
                "policy": policy.model_dump(),
                "env_id": "foreign:Foreign-v0" if wheel else "CartPole-v1",
                "requirements": [wheel.model_dump()] if wheel else [],
                "first_seed": 100,
                "n_episodes": 2,
                **changes,
            }
        )

    def log_of(self, function: str) -> str:
        """Read the whole log of a function."""
        logs = self.as_role("administrator").client("logs")
        group = f"/aws/lambda/nightshift-dev-{function}"
        events = [
            event["message"]
            for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group)
            for event in page["events"]
        ]
        return "\n".join(events)

    def player_log(self) -> str:
        """Read the whole log of the player."""
        return self.log_of("player")
