"""The environments that the console reads, each as its viewer."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from infra_bootstrap.stacks.concerns import bucket_name
from rl_airflow.console.cached_store import THREADS, CachedStore, KeptValues, ReadingPool
from rl_airflow.errors import EnvironmentNotReadyError, SessionNotOpenedError, first_line
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.machines.instances import Machines
from rl_lifecycle.aws_errors import error_code
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.storage.s3_store import S3Store

#: The limits of one call. Browsers wait for it, so it gives up early.
CONNECT_TIMEOUT_S, READ_TIMEOUT_S, TRIES = 3, 10, 2
#: The limits of a call to STS. The first page waits for all three, so there is one try each.
OPENING: Mapping[str, Any] = {
    "connect_timeout": 3,
    "read_timeout": 3,
    "retries": {"mode": "standard", "total_max_attempts": 1},
}
#: The largest object that is read. Reports and ledgers have some kilobytes.
MOST_OBJECT_BYTES = 8 * 2**20
#: The bytes of a log in one answer.
MOST_LOG_BYTES = 256 * 2**10
#: The environments that are kept. A form may name any, so the number is bounded.
MOST_ENVIRONMENTS = 8


class ViewedPlace(NamedTuple):
    """An environment and its region. None means the region of the API server."""

    environment: str
    region_name: str | None = None


class ViewedEnvironment(NamedTuple):
    """What the console may see of an environment.

    :param logs: the same bucket, for reads of a limited size.
    """

    environment: str
    store: CachedStore
    logs: ObjectStore
    machines: Machines


def viewer_session(place: ViewedPlace) -> RoleSession:
    """Return the session of an environment's viewer. Its calls fail quickly."""
    return RoleSession(
        "viewer", place.environment, region_name=place.region_name, opening=OPENING
    ).hurry()


def open_environment(place: ViewedPlace, kept: KeptValues, pool: ReadingPool) -> ViewedEnvironment:
    """Open an environment as its viewer, who may read the bucket and describe machines.

    The bucket's name follows from the account, because the viewer may read no stack.

    :raises EnvironmentNotReadyError: if AWS does not let the API server become the viewer.
    :raises SessionNotOpenedError: if AWS does not answer, or no credentials are there.
    """
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        session = viewer_session(place).session
        s3, ec2 = (_client(session, service) for service in ("s3", "ec2"))
        sts = session.client("sts", config=Config(**OPENING))
        account = sts.get_caller_identity()["Account"]
    except ClientError as error:
        raise EnvironmentNotReadyError(
            place.environment, f"its viewer's session could not be opened ({error_code(error)})"
        ) from error
    except BotoCoreError as error:
        raise SessionNotOpenedError(place.environment, "viewer", first_line(error)) from error
    bucket = bucket_name(place.environment, account, session.region_name)
    return ViewedEnvironment(
        place.environment,
        CachedStore(S3Store(s3, bucket, most_bytes=MOST_OBJECT_BYTES), kept, pool),
        S3Store(s3, bucket, most_bytes=MOST_LOG_BYTES),
        Machines(ec2, place.environment),
    )


def _client(session: Any, service: str) -> Any:
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        max_pool_connections=THREADS,
    )
    return session.client(service, config=config)


class Environments:
    """The environments that were opened. They share the threads and the space for what is kept.

    :param open_: opens an environment.
    """

    def __init__(
        self,
        open_: Callable[
            [ViewedPlace, KeptValues, ReadingPool], ViewedEnvironment
        ] = open_environment,
    ) -> None:
        self._open, self._kept, self._pool = open_, KeptValues(), ReadingPool()
        self._opened: OrderedDict[ViewedPlace, ViewedEnvironment] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, place: ViewedPlace) -> ViewedEnvironment:
        """Get an environment, opened when it is first asked for.

        :raises EnvironmentNotReadyError: if it cannot be opened. The next call tries again.
        """
        with self._lock:
            if (found := self._opened.get(place)) is not None:
                self._opened.move_to_end(place)
                return found
        opened = self._open(place, self._kept, self._pool)
        with self._lock:
            self._opened[place] = opened
            while len(self._opened) > MOST_ENVIRONMENTS:
                self._opened.popitem(last=False)
        return opened
