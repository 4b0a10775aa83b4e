"""Put artifacts into the bucket, each once, under its digest.

As the launcher: the bucket lets it and the deployer write `artifacts/`, the deployer is
CloudFormation's alone, and the launcher is what Airflow's role (and the operator named at
bootstrap) may become. What is there cannot be changed: the bucket's policy asks for If-None-Match.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from infra_bootstrap.artifacts.files import ArtifactFile
from rl_lifecycle.storage.layout import ARTIFACTS
from rl_lifecycle.storage.stores import S3Store, put_once

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PARALLEL = 8


def upload(s3: "S3Client", bucket: str, files: Sequence[ArtifactFile]) -> int:
    """Upload what is not there yet.

    :param s3: an S3 client that may write `artifacts/`.
    :param files: those that name others come last.
    :return: how many were uploaded.
    """
    store = S3Store(s3, bucket)
    present = {info.key for info in store.list(ARTIFACTS)}
    missing = [file for file in files if file.key not in present]
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(lambda file: put_once(store, file.key, file.read()), missing[:-1]))
    for file in missing[-1:]:
        put_once(store, file.key, file.read())
    return len(missing)
