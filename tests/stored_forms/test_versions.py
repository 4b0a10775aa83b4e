"""Parts of different versions say in one line what to deploy."""

import io
import json
import math
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra_bootstrap.stacks.concerns import TEMPLATES
from rl_airflow.errors import EvaluationFailedError, OtherVersionError
from rl_airflow.evaluation.evaluator import Evaluator, Gap, Job, Scene
from rl_airflow.run.run_resources import RunPlan
from rl_evaluator.errors import EvaluatorError
from rl_lifecycle.errors import InvalidRecordError, LifecycleError, NewerRecordError
from rl_lifecycle.evaluation.requests import DecideRequest
from rl_lifecycle.experiment.spec import Artifact, Spec
from rl_lifecycle.machines.machine_attempts import AttemptEnd
from rl_lifecycle.records.record import canonical_json, sha256_hex
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import spec_key
from rl_lifecycle.trials.actions import ActionKind, decide_action
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerCause, TrainerState
from tests.evaluator.one_process import answer
from tests.evaluator.stored_runs import store_spec
from tests.lifecycle.trials.test_states import NOW, attempt, evidence
from tests.stored_forms.record_values import make_record
from tests.stored_forms.records import RECORDS
from tests.trainer.conftest import TINY_PPO, frozen

SCENE = Scene(experiment="cartpole", run="night-1", env_id="CartPole-v1")


class FakeFunction:
    """A Lambda client that sends another version's requests to this version's function.

    :param change: the other version's difference in the request
    """

    def __init__(
        self, store: DirectoryStore, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        self.store, self.change = store, change

    def invoke(self, *, FunctionName: str, InvocationType: str, Payload: bytes) -> dict[str, Any]:
        """Answer as Lambda does, errors included."""
        assert (FunctionName, InvocationType) == ("evaluator:live", "RequestResponse")
        try:
            found = answer(self.change(json.loads(Payload)), self.store, lambda: math.inf)
        except (EvaluatorError, LifecycleError) as error:
            output = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return {
                "FunctionError": "Unhandled",
                "Payload": io.BytesIO(json.dumps(output).encode()),
            }
        return {"Payload": io.BytesIO(json.dumps(found).encode())}


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    """An empty store."""
    (tmp_path / "bucket").mkdir()
    return DirectoryStore(tmp_path / "bucket")


@pytest.mark.parametrize(
    "change",
    [
        lambda request: {**request, "gpu": 1},
        lambda request: {**request, "action": "play"},
        lambda request: {key: value for key, value in request.items() if key != "env_id"},
    ],
    ids=["a newer key", "a newer action", "an older request"],
)
def test_a_function_of_another_version_is_one_line_that_says_deploy(
    store: DirectoryStore, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """Airflow recognises the refusal, because the deployed function cannot say more."""
    evaluator = Evaluator(FakeFunction(store, change), "evaluator:live")
    with pytest.raises(OtherVersionError) as caught:
        evaluator.check_environment(SCENE)
    output = str(caught.value)
    assert "the evaluator's function is of another version than this Airflow" in output
    assert_deploy(output)


def test_a_newer_spec_is_recognised_through_the_function(
    store: DirectoryStore,
) -> None:
    """The request is valid, and its frozen spec is newer than the function."""
    spec, _ = store_spec(store)
    data = canonical_json({**json.loads(spec.to_json()), "seats": 2})
    newer = Artifact(key=spec_key("cartpole", spec.run), sha256=sha256_hex(data))
    store.put(newer.key, data)
    evaluator = Evaluator(FakeFunction(store, dict), "evaluator:live")
    request = DecideRequest(
        experiment="cartpole", run=spec.run, candidate="gate-candidate", champion=None, spec=newer
    )
    with pytest.raises(OtherVersionError) as caught:
        evaluator.decide(request)
    assert "seats: Extra inputs are not permitted)" in str(caught.value)
    assert_deploy(str(caught.value))


def test_a_missing_policy_is_not_a_version_problem(store: DirectoryStore) -> None:
    """A missing policy is reported as before."""
    missing = Artifact(key="policies/cartpole/night-1/seed-0/none.onnx", sha256="0" * 64)
    job = Job(name="gate-candidate", policy=missing, first_seed=1, n_episodes=2)
    evaluator = Evaluator(FakeFunction(store, dict), "evaluator:live")
    with pytest.raises(EvaluationFailedError, match="does not exist") as caught:
        evaluator.evaluate(SCENE, job, Gap(job.name, 0, 2))
    assert not isinstance(caught.value, OtherVersionError)


@pytest.mark.parametrize("name", sorted(RECORDS))
@pytest.mark.parametrize("change", [{"a_newer_key": 1}, {"schema_version": 2}])
def test_a_record_of_a_newer_version_says_so(name: str, change: dict[str, int]) -> None:
    """The error says that the reader is older than the record, and what to do."""
    form = RECORDS[name]
    newer = json.loads(make_record(form, full=True).to_json()) | change
    with pytest.raises(NewerRecordError) as from_bytes:
        form.from_json(json.dumps(newer).encode(), "s3://lake/x.json")
    with pytest.raises(NewerRecordError) as from_value:
        form.from_value(newer, "s3://lake/x.json")
    assert str(from_bytes.value) == str(from_value.value)
    assert str(from_value.value).startswith(f"s3://lake/x.json: {next(iter(change))}: ")
    assert_deploy(str(from_value.value))


def test_a_damaged_record_is_not_a_version_problem() -> None:
    """A missing key or a wrong type is reported as before."""
    with pytest.raises(InvalidRecordError) as caught:
        Artifact.from_value({"key": "x"}, "an artifact")
    assert not isinstance(caught.value, NewerRecordError)
    assert str(caught.value) == "an artifact: sha256: Field required"


def test_a_worker_that_is_older_than_the_plan_says_so() -> None:
    """A worker that was not upgraded reads the plan of an upgraded worker."""
    from rl_airflow.trials.operators import Ec2TerminateRunOperator

    plan = make_record(RunPlan, full=True).model_dump(mode="json")
    task = Ec2TerminateRunOperator(task_id="terminate", plan={**plan, "collectors": 2})
    with pytest.raises(NewerRecordError, match="the run's plan: collectors: ") as caught:
        task.execute({})
    assert_deploy(str(caught.value))


@pytest.fixture
def newer_spec(tmp_path: Path) -> Path:
    """A frozen spec with a key that this version does not know."""
    spec: Spec = frozen(TINY_PPO)
    path = tmp_path / "spec.json"
    path.write_bytes(canonical_json({**json.loads(spec.to_json()), "seats": 2}))
    return path


def test_the_trainer_refuses_a_spec_of_a_newer_version_in_one_line(
    tmp_path: Path, newer_spec: Path
) -> None:
    """The process exits with 2, prints one line and writes nothing."""
    done = train(newer_spec, tmp_path / "store")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "spec.json: seats: Extra inputs are not permitted" in done.stderr
    assert_deploy(done.stderr)


def train(spec: Path, store: Path) -> "subprocess.CompletedProcess[str]":
    """Run the trainer as a process."""
    return subprocess.run(
        [sys.executable, "-m", "rl_trainer", "train", "--spec", spec, "--store", store],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def bucket() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A small S3 on the loopback for a machine's last heartbeat.

    It yields its address and its objects.
    """
    objects: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200 if self.path in objects else 404, objects.get(self.path, b""))

        def do_PUT(self) -> None:
            objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(200)

        def _answer(self, status: int, data: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", objects
    server.shutdown()
    server.server_close()


def test_a_machine_reports_why_its_trainer_refused_the_spec(
    tmp_path: Path, newer_spec: Path, bucket: tuple[str, dict[str, bytes]]
) -> None:
    """The boot script reports for a trainer that ended before its first heartbeat."""
    address, objects = bucket
    done = train(newer_spec, tmp_path / "store")
    (tmp_path / "boot.log").write_text(f"12:00:00 nightshift: ready after 3 s\n{done.stderr}")
    subprocess.run(
        [sys.executable, "-c", boot_program(), "report", str(done.returncode)],
        env={
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": address,
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "NIGHTSHIFT_WORK": str(tmp_path),
            "NIGHTSHIFT_BUCKET": "lake",
            "NIGHTSHIFT_EXPERIMENT": "tiny",
            "NIGHTSHIFT_RUN": "test",
            "NIGHTSHIFT_TRIAL": "seed-0",
            "NIGHTSHIFT_ATTEMPT": "1",
        },
        check=True,
        timeout=120,
    )
    beat = Heartbeat.from_json(objects["/lake/heartbeats/tiny/test/seed-0.json"])
    assert (beat.state, beat.cause) == (TrainerState.FAILED, TrainerCause.SPEC)
    assert beat.message == done.stderr.strip()
    assert_deploy(beat.message)


@pytest.mark.parametrize(
    "reason",
    ["the trainer ended with exit status 2", str(NewerRecordError("spec.json", "seats: no"))],
    ids=["a script that was not deployed", "a script that was"],
)
def test_the_trial_fails_with_the_advice_to_deploy(reason: str) -> None:
    """An older boot script knows only the exit status, and the advice appears once."""
    ended = attempt(end=AttemptEnd.CODE_FAILED, ended_at=NOW, reason=reason)
    action = decide_action(evidence(ended))
    assert action.kind is ActionKind.FAIL
    assert_deploy(action.finding.reason)
    assert action.finding.reason.count("infra_bootstrap deploy") == 1
    assert "traceback" not in action.finding.reason


def boot_program() -> str:
    """The boot script's program that installs the trainer and reports for it."""
    script = (TEMPLATES / "user_data.sh").read_text()
    (program,) = re.findall(r"cat > boot\.py <<'PY'\n(.*?)\nPY\n", script, re.S)
    return str(program)


def assert_deploy(message: str) -> None:
    """Assert one line that names the command and the DAG."""
    assert len(message.splitlines()) == 1
    assert "python -m infra_bootstrap deploy" in message
    assert "bootstrap_infrastructure" in message
