"""Runs functions: reuses or starts an environment, and returns what the emulator expects."""

from __future__ import annotations

import contextvars
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_aws.emulator import seams
from local_aws.functions.concurrency import ConcurrencyLimit
from local_aws.functions.environment import Environment, InvocationOutcome, Launch
from local_aws.functions.packages import BadPackageError, Packages
from local_aws.functions.runtimes import Runtimes
from local_aws.iam.sessions import Credentials, Issuer, RoleMissingError, TrustError
from local_aws.machines.processes import MARK
from local_aws.machines.reaper import Reaper

log = logging.getLogger("local_aws")
SERVICE = "lambda.amazonaws.com"
OLDEST_S = 2700.0
"""The age in seconds after which an environment is not used any more: its credentials live for an
hour."""
IDLE_FOR_S = 120.0
KEPT_IDLE = 8
RESPONSE_LIMIT = 6 * 1024 * 1024
NESTED: contextvars.ContextVar[bool] = contextvars.ContextVar("nested", default=False)
"""Whether the caller of this request is itself a function."""
TENANT: contextvars.ContextVar[str | None] = contextvars.ContextVar("tenant", default=None)
"""The tenant for whom a function is invoked, if the function isolates tenants."""
Record = Mapping[str, Any]


@dataclass
class Idle:
    """An environment that waits for its next invocation.

    :param since: when it became idle (`time.monotonic`).
    """

    environment: Environment
    since: float


class Runner:
    """The execution environments of all functions.

    :param endpoint_url: the address of the local AWS.
    :param process_mark: the mark in the environment of each process.
    :ivar keys: the access keys of the functions.
    :ivar spoil: called before an invocation; returns the error that a fault causes, or None.
    """

    def __init__(
        self,
        folder: Path,
        runtimes: Runtimes,
        issuer: Issuer,
        reaper: Reaper,
        endpoint_url: str,
        process_mark: str,
    ) -> None:
        self._packages = Packages(folder / "unpacked")
        self._folder = folder
        self._runtimes = runtimes
        self._issuer = issuer
        self._reaper = reaper
        self._endpoint_url = endpoint_url
        self._process_mark = process_mark
        self._gate = ConcurrencyLimit()
        self._lock = threading.Lock()
        self._idle: dict[str, list[Idle]] = {}
        self._all: set[Environment] = set()
        self.keys: set[str] = set()
        self.spoil: Callable[[str, str], dict[str, Any] | None] = (
            lambda _function_name, _request_id: None
        )
        self.on_start: Callable[[], None] = lambda: None

    # --- Called by the emulator ---

    def execute(self, record: Record, event: Any, request_id: str) -> dict[str, Any]:
        """Run one invocation for the emulator. It starts a process if no environment is idle."""
        config = record.get("config") or record
        if spoiled := self.spoil(config["FunctionName"], request_id):
            return as_result(InvocationOutcome(None, spoiled, "", 0.0, None, 0, True))
        with self._gate.slot(NESTED.get()):
            try:
                outcome = self._run(record, config, event, request_id)
            except (BadPackageError, TrustError, RoleMissingError, OSError) as error:
                outcome = InvocationOutcome(None, init_error(error), "", 0.0, None, 0, False)
        return as_result(outcome)

    def _run(
        self, record: Record, config: Record, event: Any, request_id: str
    ) -> InvocationOutcome:
        """Invoke an idle or a new environment, and keep it if it is still usable."""
        tenant = TENANT.get()
        key = environment_key(config, tenant)
        environment = self._take(key) or self._start(record, config)
        self.on_start()
        outcome = environment.invoke(event, request_id, str(config["FunctionArn"]), tenant)
        if (outcome.is_usable and outcome.error is None) or (
            outcome.is_usable and not is_init_error(outcome.error)
        ):
            self._put(key, environment)
        else:
            self._drop(environment)
        return outcome

    def _take(self, key: str) -> Environment | None:
        """Return the idle environment that was used last.

        The others stay idle, so that they can be ended.
        """
        with self._lock:
            idle = self._idle.get(key, [])
            while idle:
                known = idle.pop()
                if (
                    time.monotonic() - known.environment.started_at < OLDEST_S
                    and known.environment.is_alive()
                ):
                    known.environment.thaw()
                    return known.environment
                threading.Thread(target=self._drop, args=[known.environment], daemon=True).start()
        return None

    def _put(self, key: str, environment: Environment) -> None:
        """Freeze an environment and keep it; end those that are idle for long or outdated."""
        environment.freeze()
        with self._lock:
            self._idle.setdefault(key, []).append(Idle(environment, time.monotonic()))
            surplus = self._surplus(key)
        for old in surplus:
            self._drop(old)

    def _surplus(self, current: str) -> list[Environment]:
        """Remove the environments from the pool that should not be kept, and return them."""
        out, before = [], time.monotonic() - IDLE_FOR_S
        name, version = current.partition("@")[0], without_tenant(current)
        for key, idle in self._idle.items():
            is_older = without_tenant(key) != version and key.partition("@")[0] == name
            gone = [i for i in idle if is_older or i.since < before]
            gone += [i for i in idle if i not in gone][: max(0, len(idle) - len(gone) - KEPT_IDLE)]
            out += [i.environment for i in gone]
            idle[:] = [i for i in idle if i not in gone]
        return out

    def _drop(self, environment: Environment) -> None:
        """End an environment."""
        with self._lock:
            self._all.discard(environment)
        environment.close()

    def _start(self, record: Record, config: Record) -> Environment:
        """Start an environment."""
        launch = self._launch(record, config)
        environment = Environment(launch, self._reaper)
        with self._lock:
            self._all.add(environment)
        return environment

    def _launch(self, record: Record, config: Record) -> Launch:
        """Return how a function's process is started.

        :raises OSError: if this machine lacks the function's runtime.
        """
        runtime = str(config.get("Runtime"))
        interpreter = self._runtimes.interpreter(runtime)
        if interpreter is None:
            raise OSError(f"this machine has no {runtime}")
        code = self._packages.unpack(record["code_zip"] or b"")
        role = str(config["Role"]).rsplit("/", 1)[-1]
        credentials = self._issuer.issue(
            role,
            str(config["FunctionName"])[:64],
            SERVICE,
            {"aws:SourceArn": str(config["FunctionArn"])},
        )
        self.keys.add(credentials.access_key_id)
        return Launch(
            interpreter,
            code,
            self._paths(code, config, runtime),
            self._variables(config, code, credentials, interpreter),
            float(config.get("Timeout", 3)),
            int(config.get("MemorySize", 128)),
        )

    def _paths(self, code: Path, config: Record, runtime: str) -> list[str]:
        """Return the import paths of the handler, in order.

        They are its zip, its layers (the last layer first), and the runtime's packages.
        """
        service = seams.module("services.lambda_svc")
        layers = [
            content
            for layer in config.get("Layers", [])
            if (content := service._resolve_layer_zip(layer))
        ]
        roots = [self._packages.unpack(content) for content in reversed(layers)]
        inside = [
            str(root / part)
            for root in roots
            for part in (f"python/lib/{runtime}/site-packages", "python")
        ]
        return [str(code), *inside, str(self._runtimes.packages)]

    def _variables(
        self, config: Record, code: Path, credentials: Credentials, interpreter: str
    ) -> dict[str, str]:
        """Return a function's environment: its own variables and those that Lambda reserves.

        Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
        """
        name = str(config["FunctionName"])
        scratch = self._folder / "tmp" / secrets.token_hex(6)
        scratch.mkdir(parents=True)
        group = (config.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{name}"
        stream = f"{time.strftime('%Y/%m/%d')}/[$LATEST]{secrets.token_hex(16)}"
        own = {
            str(k): str(v)
            for k, v in (config.get("Environment") or {}).get("Variables", {}).items()
        }
        return {
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PATH": f"{Path(interpreter).parent}:/usr/local/bin:/usr/bin:/bin",
            "TMPDIR": str(scratch),
            "HOME": str(scratch),
            **own,
            "_HANDLER": str(config["Handler"]),
            "LAMBDA_TASK_ROOT": str(code),
            "LAMBDA_RUNTIME_DIR": str(self._runtimes.packages),
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{config['Runtime']}",
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": str(config.get("Version", "$LATEST")),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config.get("MemorySize", 128)),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": group,
            "AWS_LAMBDA_LOG_STREAM_NAME": stream,
            "AWS_REGION": self._issuer.region,
            "AWS_DEFAULT_REGION": self._issuer.region,
            "AWS_ENDPOINT_URL": self._endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ACCESS_KEY_ID": credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
            "AWS_SESSION_TOKEN": credentials.session_token,
            "PYTHONPATH": str(self._runtimes.packages),
            "LOCAL_AWS_BOUNDS_LOG": str(self._folder / "out-of-bounds" / name),
            MARK: self._process_mark,
        }

    def can_assume(self, role_arn: str) -> bool:
        """Say whether a role exists and trusts Lambda."""
        try:
            return self._issuer.trusts(
                self._issuer.get_role(role_arn.rsplit("/", 1)[-1]), SERVICE, {}
            )
        except RoleMissingError:
            return False

    def running(self) -> int:
        """Return the number of environments."""
        with self._lock:
            return len(self._all)

    def active(self) -> int:
        """Return the number of environments that are not frozen."""
        with self._lock:
            return len(self._all) - sum(len(idle) for idle in self._idle.values())

    def close(self) -> None:
        """End every environment."""
        with self._lock:
            ending = list(self._all)
        for environment in ending:
            self._drop(environment)


def environment_key(config: Record, tenant: str | None) -> str:
    """Return a key that is equal for invocations that can share an environment.

    Two tenants never share one.
    Source: https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation.html
    """
    content = f"{config.get('RevisionId')}/{config.get('CodeSha256')}/{tenant or ''}"
    return f"{config['FunctionName']}:{config.get('Version')}@{content}"


def without_tenant(key: str) -> str:
    """Return the part of an environment's key that names the function's code."""
    head, _, content = key.partition("@")
    return f"{head}@{'/'.join(content.split('/')[:2])}"


def is_init_error(error: Mapping[str, Any] | None) -> bool:
    """Say whether the handler could not be loaded."""
    kind = (error or {}).get("errorType", "")
    return kind in (
        "Runtime.ImportModuleError",
        "Runtime.UserCodeSyntaxError",
        "Runtime.HandlerNotFound",
        "Runtime.MalformedHandlerName",
    )


def init_error(error: Exception) -> dict[str, Any]:
    """Return Lambda's error for a function that cannot be started."""
    return {"errorType": "InvalidRuntimeException", "errorMessage": str(error)}


def as_result(outcome: InvocationOutcome) -> dict[str, Any]:
    """Return an outcome in the form of the emulator's executors."""
    text = report(outcome)
    if outcome.error is None and len(outcome.payload or "") > RESPONSE_LIMIT:
        too_large = (
            f"Response payload size exceeded maximum allowed payload size ({RESPONSE_LIMIT} bytes)."
        )
        return {
            "body": {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": too_large},
            "error": True,
            "function_error": "Unhandled",
            "log": text,
        }
    if outcome.error is None:
        return {"body": outcome.payload, "raw_payload": True, "log": text}
    return {"body": outcome.error, "error": True, "function_error": "Unhandled", "log": text}


def report(outcome: InvocationOutcome) -> str:
    """Return the log with the values of Lambda's REPORT line that the emulator's line lacks."""
    init = f" Init Duration: {outcome.init_s * 1000:.2f} ms" if outcome.init_s is not None else ""
    return (
        f"{outcome.log}[local AWS] Duration: {outcome.duration_s * 1000:.2f} ms Max Memory "
        f"Used: {outcome.peak_mib} MB{init}\n"
    )
