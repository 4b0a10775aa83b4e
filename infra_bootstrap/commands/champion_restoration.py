"""Restore a lost pointer to the champion in a bucket, as the promoter."""

import uuid

from infra_bootstrap.clients import Clients
from infra_bootstrap.errors import BadInputError
from infra_bootstrap.stacks.concerns import bucket_name, role_name
from rl_lifecycle.records.names import is_slug
from rl_lifecycle.registry.restoration import Restoration, restore_champion
from rl_lifecycle.storage.s3_store import S3Store


def restore_in_bucket(clients: Clients, environment: str, experiment: str | None) -> Restoration:
    """Write the pointer of an experiment again, from its history.

    Only the promoter writes the registry, and only Airflow's role may become the promoter. So run
    the command where Airflow's worker runs.

    :raises AccessRefusedError: if the caller may not become the promoter.
    """
    if experiment is None or not is_slug(experiment):
        raise BadInputError("--experiment: name the experiment, for example cartpole_ppo")
    promoter = clients.assume(
        clients.role_arn(role_name(environment, "promoter")), "nightshift-restore"
    )
    bucket = bucket_name(environment, clients.account_id, clients.region)
    store = S3Store(promoter.s3, bucket)
    return restore_champion(store, experiment, new_nonce=lambda: uuid.uuid4().hex)
