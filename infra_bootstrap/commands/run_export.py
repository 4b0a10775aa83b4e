"""Export a run of a bucket to TensorBoard or MLflow. It only reads the bucket."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, is_missing, refused_or_same
from infra_bootstrap.commands.bug_report import report_folder
from infra_bootstrap.errors import BadInputError, NotDeployedError
from infra_bootstrap.exports.mlflow_runs import export_to_server
from infra_bootstrap.exports.run_contents import RunContents, find_spec
from infra_bootstrap.exports.tensorboard_folder import export_to_folder
from infra_bootstrap.exports.tracking_server import TrackingServer
from infra_bootstrap.stacks.concerns import Concern, bucket_name, stack_name
from rl_lifecycle.storage.s3_store import S3Store

TENSORBOARD, MLFLOW = TOOLS = ("tensorboard", "mlflow")
#: The largest object that is read. A page with films has a few megabytes.
MOST_OBJECT_BYTES = 64 * 2**20


def export_from_bucket(
    clients: Clients,
    environment: str,
    run: str,
    to: str,
    *,
    experiment: str | None,
    output: Path | None,
    variables: Mapping[str, str] = os.environ,
) -> tuple[dict[str, Any], str]:
    """Export a run with the caller's own credentials, which must be allowed to read the bucket.

    :param output: the folder for TensorBoard.
    :param variables: those of the environment, which name the tracking server.
    :return: the answer, and the text for a person.
    """
    if to == MLFLOW and output is not None:
        raise BadInputError("--output is only for --to tensorboard: leave it out")
    server = TrackingServer.from_variables(variables) if to == MLFLOW else None
    store = _open_bucket(clients, environment)
    contents = RunContents(store, find_spec(store, run, experiment))
    answer: dict[str, Any] = {
        "environment": environment,
        "experiment": contents.experiment,
        "run": contents.run,
    }
    if server is not None:
        done = export_to_server(contents, server, environment)
        answer |= {"to": server.address, "metrics": done.n_metrics, "mlflow_run_id": done.run_id}
        text = (
            f"{done.n_metrics} new values are in the experiment {done.experiment} of "
            f"{server.address}, run {done.run_id}"
        )
    else:
        folder = output or report_folder() / TENSORBOARD
        home, n_files = export_to_folder(contents, folder)
        answer |= {"to": str(home), "files": n_files}
        text = f"{n_files} event files are in {home}\nnext: tensorboard --logdir {folder}"
    lines = [text, *(f"note: {problem}" for problem in contents.problems)]
    return answer | {"problems": contents.problems}, "\n".join(lines)


def _open_bucket(clients: Clients, environment: str) -> S3Store:
    """Open the environment's bucket.

    :raises NotDeployedError: if there is none.
    :raises AccessRefusedError: if the caller may not list it.
    """
    bucket = bucket_name(environment, clients.account_id, clients.region)
    try:
        clients.s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if is_missing(error):
            raise NotDeployedError(stack_name(environment, Concern.STORAGE), environment) from None
        raise refused_or_same(error, f"s3:ListBucket {bucket}") from error
    return S3Store(clients.s3, bucket, most_bytes=MOST_OBJECT_BYTES)
