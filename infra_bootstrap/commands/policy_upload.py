"""Upload a policy that was trained elsewhere, so that the DAG `import_policy` can judge it."""

from pathlib import Path
from typing import NamedTuple

from infra_bootstrap.artifacts.files import ArtifactFile
from infra_bootstrap.artifacts.uploads import upload
from infra_bootstrap.clients import Clients
from infra_bootstrap.errors import BadInputError
from infra_bootstrap.stacks.concerns import bucket_name, role_name
from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.policies import MAX_BYTES
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.registry.parameter_files import digest_parameters
from rl_lifecycle.registry.versions import ImportBundle
from rl_lifecycle.storage.layout import IMPORT_FILE, artifact_key


class UploadedPolicy(NamedTuple):
    """An uploaded policy.

    :param key: key of its bundle, which the form of `import_policy` asks for.
    :param n_new: how many files were uploaded; the others were there already.
    """

    key: str
    n_new: int


def upload_policy(clients: Clients, environment: str, path: Path) -> UploadedPolicy:
    """Upload an ONNX policy with the parameters that `rl_trainer export` wrote beside it.

    The upload uses the launcher role. Nothing in the files is executed.

    :raises BadInputError: if a file is missing, a file is too big for the evaluator, or the two
        files do not belong together.
    """
    files = [_read(path), _read(path.with_suffix(".safetensors"))]
    _check_belong_together(path)
    bundle = ImportBundle(policy=_artifact(files[0]), parameters=_artifact(files[1])).to_json()
    last = ArtifactFile(
        artifact_key(sha256_hex(bundle), IMPORT_FILE), sha256_hex(bundle), data=bundle
    )
    launcher = clients.assume(
        clients.role_arn(role_name(environment, "launcher")), "nightshift-import"
    )
    bucket = bucket_name(environment, clients.account_id, clients.region)
    return UploadedPolicy(last.key, upload(launcher.s3, bucket, [*files, last]))


def _read(path: Path) -> ArtifactFile:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInputError(
            f"--policy: {path}: {error.strerror}; write it with `python -m rl_trainer export "
            f"--model M.zip --trust --out {path.with_suffix('.onnx')}`"
        ) from None
    if len(data) > MAX_BYTES:
        raise BadInputError(
            f"--policy: {path} has {len(data):,} bytes; the evaluator takes at most {MAX_BYTES:,}"
        )
    return ArtifactFile(artifact_key(sha256_hex(data), path.name), sha256_hex(data), data=data)


def _check_belong_together(path: Path) -> None:
    """Look for the digest of the parameters in the policy, whose metadata contains it.

    :raises BadInputError: if the digest is not there.
    """
    beside = path.with_suffix(".safetensors")
    try:
        digest = digest_parameters(beside.read_bytes(), f"--policy: {beside}")
    except InvalidRecordError as error:
        raise BadInputError(str(error)) from None
    if digest.encode() not in path.read_bytes():
        raise BadInputError(
            f"--policy: {beside} holds the parameters of another policy than {path}; export both "
            "files again"
        )


def _artifact(file: ArtifactFile) -> Artifact:
    return Artifact(key=file.key, sha256=file.sha256)
