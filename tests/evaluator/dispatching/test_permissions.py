"""The dispatcher hands over only what a request needs, and only from its own experiment."""

import json
import math
from typing import Any

import pytest

from rl_evaluator.dispatch import Dispatcher
from rl_evaluator.dispatching.permissions import tenant_of
from rl_evaluator.errors import InvalidRequestError
from rl_lifecycle.experiment.spec import Artifact, EvaluatorVersion, WheelSet
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import artifact_key, spec_key
from rl_lifecycle.storage.object_store import get
from tests.evaluator.one_process import FakeSigner, OneProcess
from tests.evaluator.policy_files import policy_for_id
from tests.evaluator.stored_runs import store_artifact, store_policy, store_spec
from tests.evaluator.test_dispatch import arrival, evaluate_event


@pytest.fixture
def functions(store: DirectoryStore) -> OneProcess:
    """A player and a judge that keep what they were asked."""
    return OneProcess(store, lambda: math.inf)


def ask(store: DirectoryStore, functions: OneProcess, event: dict[str, Any]) -> dict[str, Any]:
    """Let a dispatcher answer."""
    return Dispatcher(store, FakeSigner(), functions).answer(event)


def test_a_request_gets_its_policy_and_one_key_to_write(
    store: DirectoryStore, functions: OneProcess, cartpole: Artifact
) -> None:
    """The player gets addresses for the policy and for the one shard."""
    ask(store, functions, evaluate_event(cartpole))
    (request,) = functions.requests
    assert list(request.reads) == [cartpole.key]
    assert request.write is not None
    assert "evaluations/cartpole/night-1/gate-candidate/shards/0000.json" in request.write


def test_a_stored_shard_asks_the_player_for_nothing(
    store: DirectoryStore, functions: OneProcess, cartpole: Artifact
) -> None:
    """A second delivery is answered from the stored shard."""
    ask(store, functions, evaluate_event(cartpole))
    ask(store, functions, evaluate_event(cartpole))
    assert len(functions.requests) == 1


def test_a_wheel_set_hands_over_each_of_its_wheels(
    store: DirectoryStore, functions: OneProcess
) -> None:
    """The player cannot read the bucket, so it gets the address of every wheel of the set."""
    wheels = WheelSet(python="3.12", wheels={"a-1-py3-none-any.whl": "a" * 64})
    wheel_set = store_artifact(store, "wheels.json", wheels.to_json())
    event = {
        "action": "check_environment",
        "env_id": "CartPole-v1",
        "requirements": [wheel_set.model_dump()],
    }
    with pytest.raises(Exception, match="does not exist"):
        ask(store, functions, event)
    (request,) = functions.requests
    assert list(request.reads) == [wheel_set.key, artifact_key("a" * 64, "a-1-py3-none-any.whl")]
    assert request.write is None


@pytest.mark.parametrize(
    "key",
    [
        "specs/other/night-1/spec.json",
        "policies/other/night-1/seed-0/000000000512.onnx",
        "registry/other/versions/000001/policy.onnx",
        "evaluations/cartpole/night-1/gate-candidate/shards/0000.json",
    ],
)
def test_no_address_is_signed_for_what_is_no_policy_of_the_experiment(
    store: DirectoryStore, functions: OneProcess, key: str
) -> None:
    """A request that names a key of others as its policy is refused before anything is signed."""
    policy = Artifact(key=key, sha256="0" * 64)
    with pytest.raises(InvalidRequestError, match="is no policy of cartpole"):
        ask(store, functions, evaluate_event(policy))
    assert not functions.requests


def test_a_trainers_record_cannot_name_another_key(
    store: DirectoryStore, functions: OneProcess
) -> None:
    """A trainer writes the record of a policy. The dispatcher signs only the policy beside it."""
    spec, _ = store_spec(store)
    key = store_policy(store, spec, policy_for_id("CartPole-v1"))
    record = json.loads(get(store, key).data)
    record["policy"]["key"] = "policies/cartpole/night-2/seed-0/000000000512.onnx"
    store.put(key, json.dumps(record).encode())
    answer = ask(store, functions, arrival(key))
    assert "a record names the files beside it" in answer["refused"]
    assert not functions.requests


@pytest.mark.parametrize("part", ["experiment", "run", "name"])
def test_a_shard_stays_in_its_folder(
    store: DirectoryStore, functions: OneProcess, cartpole: Artifact, part: str
) -> None:
    """A name with a slash would be a key of another evaluation."""
    with pytest.raises(InvalidRequestError, match="must be at most 100 lower-case letters"):
        ask(store, functions, evaluate_event(cartpole, **{part: "other/night-1"}))


def test_tenants_are_experiments_with_their_wheels() -> None:
    """Another experiment, or other wheels, is another tenant; the order of wheels is not."""
    first, second = (Artifact(key=f"artifacts/{d}", sha256=d * 64) for d in "ab")
    tenants = [
        tenant_of("mine", ()),
        tenant_of("other", ()),
        tenant_of("mine", (first,)),
        tenant_of("mine", (first, second)),
    ]
    assert len(set(tenants)) == 4
    assert tenant_of("mine", (second, first)) == tenants[-1]
    assert all(len(tenant) <= 256 for tenant in (*tenants, tenant_of("x" * 300, ())))


def test_an_arrival_is_played_by_the_version_of_its_spec(
    store: DirectoryStore, functions: OneProcess
) -> None:
    """After a new deployment, a run in flight is played by the version that its spec names."""
    spec, _ = store_spec(store)
    frozen = EvaluatorVersion(function="f:1", player="p:1", judge="j:1", label="code 1")
    old = spec.model_copy(update={"evaluator": frozen})
    store.put(spec_key("cartpole", spec.run), old.to_json())
    key = store_policy(store, old, policy_for_id("CartPole-v1"))
    assert ask(store, functions, arrival(key))["started"] is True
    assert functions.versions == ["p:1"]
    assert sha256_hex(old.to_json()) == old.sha256 != spec.sha256
