"""Upload artifacts to the bucket. Each key has the digest of its file, and is written once.

The launcher role uploads them. The bucket allows only the launcher and the deployer to write
`artifacts/`. Only CloudFormation may assume the deployer. Airflow's role may assume the launcher,
and so may the operator, who is named at the first deployment. An uploaded file cannot be changed,
because the bucket's policy requires If-None-Match.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from infra_bootstrap.artifacts.files import ArtifactFile
from rl_lifecycle.storage.layout import ARTIFACTS
from rl_lifecycle.storage.object_store import put_once
from rl_lifecycle.storage.s3_store import S3Store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PARALLEL = 8


def upload(s3: "S3Client", bucket: str, files: Sequence[ArtifactFile]) -> int:
    """Upload the files that the bucket lacks.

    :param s3: an S3 client that may write `artifacts/`.
    :param files: a file that names the others comes last, so that it is uploaded after them.
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
