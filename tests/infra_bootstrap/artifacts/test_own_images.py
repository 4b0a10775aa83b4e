"""An image of one's own, with the wheels inside, end to end on the local AWS."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra_bootstrap.artifacts.archives import Entry, zip_bytes
from infra_bootstrap.artifacts.files import ArtifactFile
from infra_bootstrap.artifacts.locks import Target
from infra_bootstrap.artifacts.uploads import upload
from infra_bootstrap.artifacts.wheel_sets import build_trainer_wheels
from infra_bootstrap.stacks.concerns import TEMPLATES, Concern
from infra_bootstrap.stacks.settings import DeploymentSettings
from rl_lifecycle.experiment.spec import Artifact, WheelSet
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import artifact_key
from tests.infra_bootstrap.accounts import PYTHON, ROOT, Account, Deployment
from tests.infra_bootstrap.artifacts.test_user_data import boot

IMAGE = "/nightshift/image"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A copy of the environment that stands for a machine image, without its packages' bytes."""
    made, of = tmp_path / "image", ROOT / ".venv-ami"
    (made / "bin").mkdir(parents=True)
    (made / "pyvenv.cfg").write_bytes((of / "pyvenv.cfg").read_bytes())
    (made / "lib").symlink_to(of / "lib")
    for name in ("python", "python3"):
        (made / "bin" / name).symlink_to((of / "bin" / "python").resolve())
    return made


@pytest.fixture
def own(tmp_path: Path, image: Path) -> Iterator[Deployment]:
    """A local AWS of its own, whose machines have the image."""
    account = Account(tmp_path / "state", "--ami", str(image))
    with account.reachable():
        yield Deployment(account)
    account.down()


def store_wheels(own: Deployment) -> tuple[Artifact, WheelSet]:
    """Upload a set of two wheels: the locked uv, and a trainer that says where it is."""
    locked = build_trainer_wheels(Target(PYTHON))
    (uv,) = [file for file in locked.files if "/uv-" in file.key]
    name, info = "rl_trainer-9-py3-none-any.whl", "rl_trainer-9.dist-info"
    said = b"print('trained with', __file__)\n"
    data = zip_bytes(
        [
            Entry("rl_trainer/__init__.py", b""),
            Entry("rl_trainer/__main__.py", said),
            Entry(f"{info}/METADATA", b"Metadata-Version: 2.1\nName: rl_trainer\nVersion: 9\n"),
            Entry(
                f"{info}/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            ),
            Entry(f"{info}/RECORD", b"rl_trainer/__init__.py,,\nrl_trainer/__main__.py,,\n"),
        ]
    )
    trainer = ArtifactFile(artifact_key(sha256_hex(data), name), sha256_hex(data), data=data)
    wheels = WheelSet(
        python=PYTHON,
        wheels={name: trainer.sha256, uv.key.rpartition("/")[2]: uv.sha256},
    )
    record = wheels.to_json()
    artifact = Artifact(
        key=artifact_key(sha256_hex(record), "wheels.json"), sha256=sha256_hex(record)
    )
    files = [uv, trainer, ArtifactFile(artifact.key, artifact.sha256, data=record)]
    upload(own.as_role("launcher").s3, own.bucket, files)
    return artifact, wheels


def preinstall(
    own: Deployment, image: Path, key: str, sha256: str
) -> subprocess.CompletedProcess[str]:
    """Run preinstall.py with the image's Python, as on the machine that becomes the image."""
    found = own.as_role("launcher").session.get_credentials()
    assert found is not None
    keys = {
        "AWS_ACCESS_KEY_ID": str(found.access_key),
        "AWS_SECRET_ACCESS_KEY": str(found.secret_key),
        "AWS_SESSION_TOKEN": str(found.token),
    }
    return subprocess.run(
        [str(image / "bin/python"), str(TEMPLATES / "preinstall.py"), own.bucket, key, sha256],
        env={
            **keys,
            "AWS_ENDPOINT_URL": own.account.endpoint_url,
            "AWS_DEFAULT_REGION": own.account.region,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def console_of(own: Deployment, instance_id: str) -> str:
    """Return what a machine said."""
    ec2 = own.as_role("launcher").ec2
    return str(ec2.get_console_output(InstanceId=instance_id, Latest=True)["Output"])


def test_an_image_with_the_wheels_inside_installs_nothing(own: Deployment, image: Path) -> None:
    """A machine uses the set of its image if it is the run's set, and installs any other set."""
    own.deploy((Concern.IDENTITY,), (Concern.NETWORK, Concern.STORAGE))
    administrator = own.account.clients()
    default = administrator.ec2.describe_images()["Images"][0]["ImageId"]
    administrator.ssm.put_parameter(
        Name=IMAGE, Value=default, Type="String", DataType="aws:ec2:image"
    )
    settings = DeploymentSettings(
        "dev", lambda_runtime=f"python{PYTHON}", parameters={"ImageId": IMAGE}
    )
    own.deploy((Concern.TRAINING, Concern.EVALUATION), settings=settings)
    assert own.outputs.image_id == default

    artifact, wheels = store_wheels(own)
    wrong = preinstall(own, image, artifact.key, "0" * 64)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert "does not have the digest" in wrong.stderr

    _, machine = boot(own, "before", wheels, upload_set=False)
    said = console_of(own, machine["InstanceId"])
    assert "1 wheels installed" in said
    assert f"trained with {image}" not in said

    done = preinstall(own, image, artifact.key, artifact.sha256)
    assert done.returncode == 0, done.stderr
    installed = image / "nightshift" / artifact.sha256
    assert done.stdout == f"1 wheels are in {installed}\n"
    assert json.loads((installed / "wheels.json").read_text())["python"] == PYTHON
    assert list((installed / "site/rl_trainer/__pycache__").glob("__main__.*.pyc"))

    _, machine = boot(own, "after", wheels, upload_set=False)
    said = console_of(own, machine["InstanceId"])
    assert "the wheels are in the image" in said
    assert "wheels installed" not in said
    assert "trained with /" in said
