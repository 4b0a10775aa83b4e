"""The client of the evaluator: request episodes, checks, verdicts and pages."""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from pydantic import Field, JsonValue

from rl_airflow.errors import (
    EvaluationFailedError,
    EvaluatorBusyError,
    OtherVersionError,
    first_line,
)
from rl_airflow.infrastructure.aws_errors import aws_errors
from rl_lifecycle.aws_errors import (
    ErrorKind,
    error_code,
    kind_of,
    may_pass,
    pauses_s,
    waiting_for,
)
from rl_lifecycle.evaluation.requests import (
    CheckEnvironmentRequest,
    CheckPolicyRequest,
    DecideRequest,
    EnvironmentReport,
    EvaluateRequest,
    PolicyReport,
    RenderReportRequest,
)
from rl_lifecycle.evaluation.verdicts import Verdict
from rl_lifecycle.experiment.algorithms import ALGORITHMS
from rl_lifecycle.experiment.evaluation_settings import Perturbation, Scenario
from rl_lifecycle.experiment.spec import Artifact, Spec
from rl_lifecycle.experiment.wrappers import wrappers_of
from rl_lifecycle.records.record import Record

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import InvocationResponseTypeDef

log = logging.getLogger(__name__)

#: The errors with which the evaluator's functions say that Lambda or S3 was too busy for them.
BUSY_TYPES = frozenset({"FunctionBusyError", "StoreUnavailableError"})
#: The function's message for a request or a stored record of another version: an unknown or missing
#: key, or a newer action or form. The request itself carries no version, because the functions that
#: are deployed already would refuse such a key.
OTHER_VERSION = re.compile(
    r"(InvalidRequest|InvalidRecord|NewerRecord)Error: .*"
    r"(Extra inputs are not permitted|Field required|schema_version: Input should be|unknown "
    r"action)"
)
#: Episodes of one invocation while their speed is unknown.
SHARD_EPISODES = 50


class Job(Record):
    """One policy on a range of seeds, under one name.

    `env_kwargs` and `perturbation` come from a scenario, and override those of the scene.
    """

    name: str
    policy: Artifact
    env_kwargs: dict[str, JsonValue] = {}
    perturbation: Perturbation = Perturbation()
    first_seed: int
    n_episodes: int = Field(ge=1)
    shard_episodes: int = Field(SHARD_EPISODES, ge=1, description="episodes of one invocation")

    def named(self, name: str) -> Self:
        """Return the same job under another name."""
        return self.model_copy(update={"name": name})

    def in_shards_of(self, n_episodes: int) -> Self:
        """Return the same job with another number of episodes for each invocation."""
        return self.model_copy(update={"shard_episodes": n_episodes})


class Scene(Record):
    """The environment in which all episodes of a run are played."""

    experiment: str
    run: str
    env_id: str
    env_kwargs: dict[str, JsonValue] = {}
    requirements: tuple[Artifact, ...] = ()
    deterministic: bool = True

    def of_run(self, run: str) -> Self:
        """Return the same scene for another run."""
        return self.model_copy(update={"run": run})


def scene_of(spec: Spec) -> Scene:
    """Return the environment of a run. Champion and candidate are both played there."""
    experiment = spec.experiment
    return Scene(
        experiment=experiment.name,
        run=spec.run,
        env_id=experiment.env_id,
        env_kwargs=experiment.env_kwargs,
        requirements=spec.requirements,
        deterministic=experiment.evaluation.deterministic,
    )


class Gap(NamedTuple):
    """Missing episodes of a job: `offset` counts from the job's first seed."""

    name: str
    offset: int
    n_episodes: int


class Judged(NamedTuple):
    """The evaluator's verdict and its report, which is None while the decision is CONTINUE."""

    verdict: Verdict
    report: Artifact | None


class Evaluator:
    """The client of the evaluator's Lambda function.

    :param client: a boto3 Lambda client. Its read time-out must be longer than the function's
        time-out, and it must not retry.
    :param function: name or ARN, with the alias.
    :param on_call: is told the duration of each call that waited for its answer, seconds.
    :param sleep: waits so many seconds.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        client: "LambdaClient",
        function: str,
        on_call: Callable[[float], None] = lambda _: None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client, self.function, self.on_call = client, function, on_call
        self.sleep, self.clock = sleep, clock
        #: How often AWS was too busy for a call so far.
        self.refusals = 0

    def check_environment(
        self, scene: Scene, scenario: Scenario | None = None, spec: Spec | None = None
    ) -> EnvironmentReport:
        """Get a report on an environment: its spaces, its speed, and its problem if it has one.

        :param scenario: a scenario of the gate to check instead of the plain environment.
        :param spec: the run that will train in it, with its wrappers and action masks; None to
            check the plain environment.
        """
        varied = scenario or Scenario()
        request = CheckEnvironmentRequest(
            env_id=scene.env_id,
            env_kwargs={**scene.env_kwargs, **varied.env_kwargs},
            perturbation=varied.perturbation,
            requirements=scene.requirements,
            wrappers=wrappers_of(spec.hyperparameters) if spec else (),
            action_masks=ALGORITHMS[spec.experiment.algo].action_masks if spec else False,
            experiment=scene.experiment,
        )
        answer = self._ask("check_environment", request)
        return EnvironmentReport.from_value(answer, "the evaluator's answer")

    def check_policy(self, scene: Scene, policy: Artifact) -> PolicyReport:
        """Check that a policy loads, fits its environment and acts there."""
        request = CheckPolicyRequest(
            policy=policy,
            env_id=scene.env_id,
            env_kwargs=scene.env_kwargs,
            requirements=scene.requirements,
            experiment=scene.experiment,
        )
        answer = self._ask("check_policy", request)
        return PolicyReport.from_value(answer, "the evaluator's answer")

    def start(self, scene: Scene, job: Job, gap: Gap) -> None:
        """Request episodes without waiting. Lambda queues the request, and may deliver it twice."""
        self._invoke("Event", _request(scene, job, gap, wait=False), self._pauses())

    def evaluate(self, scene: Scene, job: Job, gap: Gap) -> dict[str, Any]:
        """Request episodes and wait.

        :raises EvaluationFailedError: with the evaluator's message.
        :raises EvaluatorBusyError: if AWS was too busy for the evaluator all the time.
        """
        return self._ask(f"evaluation {job.name}", _request(scene, job, gap))

    def decide(self, request: DecideRequest) -> Judged:
        """Request the verdict on the evaluated episodes."""
        answer = self._ask("decision", request)
        key, sha256 = answer.pop("report_key", None), answer.pop("report_sha256", None)
        report = Artifact(key=key, sha256=sha256) if key and sha256 else None
        return Judged(Verdict.from_value(answer, "the evaluator's answer"), report)

    def render_report(self, request: RenderReportRequest) -> dict[str, Any]:
        """Request the page of a decision. :return: its key, size and number of films."""
        return self._ask("page of the report", request)

    def _ask(self, what: str, request: Record) -> dict[str, Any]:
        """Call the function and wait for its answer.

        AWS may be too busy for what the function itself calls. That says nothing about the request,
        so it is sent again, for as long as Lambda is waited for.
        """
        pauses = self._pauses()
        while True:
            failed, payload = self._call(request, pauses)
            if not failed and not isinstance(payload, dict):
                raise EvaluationFailedError(what, f"the evaluator answered {payload!r}")
            if not failed:
                return dict(payload)
            problem = _function_error(payload)
            if not _is_busy(payload):
                break
            if not self._pause(problem, pauses):
                raise EvaluatorBusyError(what, problem)
        if OTHER_VERSION.match(problem):
            raise OtherVersionError(what, problem.split(": a newer version", 1)[0])
        raise EvaluationFailedError(what, problem)

    def _call(self, request: Record, pauses: Iterator[float]) -> tuple[bool, Any]:
        """Call the function once. :return: whether it failed, and its answer or its error."""
        answer, seconds = self._invoke("RequestResponse", request, pauses)
        began = self.clock()
        payload = json.loads(answer["Payload"].read() or b"null")
        self.on_call(seconds + self.clock() - began)
        return bool(answer.get("FunctionError")), payload

    def _invoke(
        self,
        kind: Literal["Event", "RequestResponse"],
        request: Record,
        pauses: Iterator[float],
    ) -> "tuple[InvocationResponseTypeDef, float]":
        """Call the function. A call that Lambda is too busy for, or does not answer, is repeated.

        This is safe even if the function ran, because it writes each of its keys once.

        :return: the answer, and how long the last try took, seconds.
        """
        while True:
            began = self.clock()
            try:
                answer = self.client.invoke(
                    FunctionName=self.function, InvocationType=kind, Payload=request.to_json()
                )
            except aws_errors() as error:
                problem = error_code(error) or first_line(error)
                if not may_pass(error) or not self._pause(problem, pauses):
                    raise
            else:
                return answer, self.clock() - began

    def _pauses(self) -> Iterator[float]:
        """Return the pauses between the tries of a request, until Lambda's time is up.

        The tries count, too: a busy function may take a minute to say so.
        """
        most_s, began = waiting_for("lambda").most_s, self.clock()
        for pause in pauses_s(most_s):
            if (left := most_s - (self.clock() - began)) <= 0:
                return
            yield min(pause, left)

    def _pause(self, problem: str, pauses: Iterator[float]) -> bool:
        """Wait before the next try. :return: False without a pause if the time is up."""
        self.refusals += 1
        pause = next(pauses, None)
        if pause is None:
            return False
        log.info("Lambda is too busy for now (%s); asking again in %.0f s", problem, pause)
        self.sleep(pause)
        return True


def _request(scene: Scene, job: Job, gap: Gap, *, wait: bool = True) -> EvaluateRequest:
    return EvaluateRequest(
        experiment=scene.experiment,
        run=scene.run,
        name=job.name,
        shard=gap.offset,
        policy=job.policy,
        env_id=scene.env_id,
        env_kwargs={**scene.env_kwargs, **job.env_kwargs},
        requirements=scene.requirements,
        perturbation=job.perturbation,
        first_seed=job.first_seed + gap.offset,
        n_episodes=gap.n_episodes,
        deterministic=scene.deterministic,
        wait=wait,
    )


def _function_error(payload: Any) -> str:
    if isinstance(payload, dict) and payload.get("errorMessage"):
        return f"{payload.get('errorType', 'error')}: {payload['errorMessage']}"
    return str(payload)[:500]


def _is_busy(payload: Any) -> bool:
    """Whether a function's error says that AWS was too busy for it."""
    kind = str(payload.get("errorType")) if isinstance(payload, dict) else ""
    return kind in BUSY_TYPES or kind_of(kind) is ErrorKind.RETRY
