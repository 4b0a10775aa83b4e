"""The dispatcher answers each kind of event from a store."""

import math
from typing import Any

import gymnasium
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from rl_evaluator.errors import EpisodeTooLongError, InvalidRequestError, SpaceMismatchError
from rl_evaluator.playing.environments import make_environment
from rl_evaluator.playing.shard_requests import RESERVE_S
from rl_lifecycle.errors import CorruptArtifactError
from rl_lifecycle.evaluation.requests import Shard, merge_shards
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import shard_key
from rl_lifecycle.storage.object_store import get
from tests.evaluator.one_process import answer
from tests.evaluator.policy_files import policy_for_id
from tests.evaluator.stored_runs import store_policy, store_spec

PLENTY = lambda: math.inf  # noqa: E731


def evaluate_event(policy: Artifact, **changes: Any) -> dict[str, Any]:
    """Build an evaluate request as the pipeline sends it."""
    return {
        "action": "evaluate",
        "experiment": "cartpole",
        "run": "night-1",
        "name": "gate-candidate",
        "shard": 0,
        "policy": policy.model_dump(),
        "env_id": "CartPole-v1",
        "first_seed": 1000,
        "n_episodes": 40,
        **changes,
    }


def read_shard(store: DirectoryStore, key: str) -> Shard:
    """Read a stored shard."""
    return Shard.from_json(get(store, key).data)


def test_a_shard_is_written_and_answered(store: DirectoryStore, cartpole: Artifact) -> None:
    """The answer names the key of a shard with one return, length and end per seed."""
    result = answer(evaluate_event(cartpole), store, PLENTY)
    assert result["key"] == shard_key("cartpole", "night-1", "gate-candidate", 0)
    assert (result["n_episodes"], result["complete"], result["done"]) == (40, True, 40)
    assert result["steps_per_s"] > 0
    assert "rest" not in result
    shard = read_shard(store, result["key"])
    assert (shard.first_seed, len(shard.returns), len(shard.lengths), len(shard.ends)) == (
        1000,
        40,
        40,
        40,
    )
    assert shard.returns == tuple(float(length or 0) for length in shard.lengths)
    assert shard.policy_sha256 == cartpole.sha256


def test_a_duplicate_delivery_changes_nothing(store: DirectoryStore, cartpole: Artifact) -> None:
    """A second delivery gives the same answer and keeps the bytes, also when both run together."""
    first = answer(evaluate_event(cartpole), store, PLENTY)
    before = get(store, first["key"]).data
    assert answer(evaluate_event(cartpole), store, PLENTY) == first
    assert get(store, first["key"]).data == before


class FakeRacingStore(DirectoryStore):
    """A store in which another invocation writes a shorter shard just before ours."""

    def put(
        self, key: str, data: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        if if_none_match and self.find(key) is None:
            shard = Shard.from_json(data)
            short = shard.model_copy(
                update={
                    "returns": shard.returns[:5],
                    "lengths": shard.lengths[:5],
                    "ends": shard.ends[:5],
                }
            )
            super().put(key, short.to_json(), if_none_match=True)
        return super().put(key, data, if_match=if_match, if_none_match=if_none_match)


def test_the_loser_of_two_deliveries_answers_what_is_stored(
    store: DirectoryStore, cartpole: Artifact
) -> None:
    """The answer describes the shorter shard of the other invocation and the remaining seeds."""
    result = answer(evaluate_event(cartpole), FakeRacingStore(store.root), PLENTY)
    assert (result["complete"], result["done"], result["rest"]) == (
        False,
        5,
        {"first_seed": 1005, "n_episodes": 35},
    )


def _clock(n_calls: int) -> Any:
    left = iter([*[900.0] * n_calls, *[RESERVE_S - 1] * 1_000_000])
    return lambda: next(left)


def test_a_shard_out_of_time_gives_its_rest_back(store: DirectoryStore, cartpole: Artifact) -> None:
    """The parts of an interrupted shard join to the shard that unlimited time would give."""
    whole = read_shard(
        store, answer(evaluate_event(cartpole, name="whole", n_episodes=150), store, PLENTY)["key"]
    )
    request, pieces = evaluate_event(cartpole, name="pieces", n_episodes=150), []
    while True:
        result = answer(request, store, _clock(40))
        pieces.append(read_shard(store, result["key"]))
        if result["complete"]:
            break
        assert result["done"] == len(pieces[-1].returns) > 0
        request = {**request, **result["rest"], "shard": request["shard"] + 1}
    assert len(pieces) > 1
    joined = merge_shards(list(reversed(pieces)))
    assert (joined.returns, joined.lengths, joined.ends) == (
        whole.returns,
        whole.lengths,
        whole.ends,
    )


def test_no_episode_within_the_time_is_an_error(store: DirectoryStore, cartpole: Artifact) -> None:
    """An invocation without a finished episode raises, so it is not repeated for ever."""
    with pytest.raises(EpisodeTooLongError, match="no episode ended within"):
        answer(evaluate_event(cartpole), store, _clock(2))
    assert list(store.list("evaluations/")) == []


def test_a_key_that_holds_another_evaluation_is_refused(
    store: DirectoryStore, cartpole: Artifact
) -> None:
    """Using a shard number for different episodes is refused as the caller's mistake."""
    answer(evaluate_event(cartpole), store, PLENTY)
    with pytest.raises(InvalidRequestError, match="holds episodes of another"):
        answer(evaluate_event(cartpole, first_seed=2000), store, PLENTY)


def test_a_policy_with_another_digest_is_not_evaluated(
    store: DirectoryStore, cartpole: Artifact
) -> None:
    """A policy whose digest differs from its record is not evaluated."""
    store.put(cartpole.key, policy_for_id("CartPole-v1", seed=1))
    with pytest.raises(CorruptArtifactError):
        answer(evaluate_event(cartpole), store, PLENTY)


def test_a_policy_for_other_spaces_is_refused(store: DirectoryStore, cartpole: Artifact) -> None:
    """A policy for other spaces is refused, and the message names both spaces."""
    with pytest.raises(SpaceMismatchError, match=r"Box\(\[4\]\), but Acrobot-v1 has Box\(\[6\]"):
        answer(evaluate_event(cartpole, env_id="Acrobot-v1"), store, PLENTY)


def check_event(policy: Artifact, env_id: str = "CartPole-v1", **changes: Any) -> dict[str, Any]:
    """Build a check request as the pipeline sends it before it moves a pointer."""
    return {"action": "check_policy", "policy": policy.model_dump(), "env_id": env_id, **changes}


def test_a_policy_that_plays_has_no_problem(store: DirectoryStore, cartpole: Artifact) -> None:
    """The answer names a good policy by both digests and has no problem."""
    result = answer(check_event(cartpole), store, PLENTY)
    assert (result["problem"], result["sha256"], len(result["digest"])) == ("", cartpole.sha256, 64)


class BrokenCartPole(CartPoleEnv):
    """A CartPole that raises on its third step."""

    def step(self, action: Any) -> Any:
        """Raise on the third step."""
        raise ValueError("the pole fell off the cart")


@pytest.mark.parametrize(
    ("data", "env_id", "message"),
    [
        (None, "CartPole-v1", "does not exist"),
        (b"changed", "CartPole-v1", "do not use it"),
        (b"\x80\x04a pickle", "CartPole-v1", "is a pickle, not ONNX"),
        (b"PK\x03\x04zip", "CartPole-v1", "executes code when loaded"),
        (policy_for_id("CartPole-v1")[:200], "CartPole-v1", "is not an ONNX file"),
        (
            policy_for_id("CartPole-v1"),
            "Acrobot-v1",
            "evaluate it on the environment that it was trained on",
        ),
        (
            policy_for_id("CartPole-v1"),
            "BrokenCartPole-v0",
            "cannot play it: step 0 raised ValueError: the pole fell off",
        ),
        (policy_for_id("CartPole-v1"), "Nowhere-v0", "is not a registered environment"),
    ],
)
def test_a_policy_that_cannot_serve_is_refused_with_the_reason(
    store: DirectoryStore, data: bytes | None, env_id: str, message: str
) -> None:
    """Each defect that keeps a policy out of service has its own one-line message."""
    gymnasium.register("BrokenCartPole-v0", entry_point=BrokenCartPole)
    try:
        sha256 = sha256_hex(data if data is not None and data != b"changed" else b"")
        if data is not None:
            store.put("policies/p.onnx", data)
        found = answer(
            check_event(Artifact(key="policies/p.onnx", sha256=sha256), env_id), store, PLENTY
        )
    finally:
        del gymnasium.registry["BrokenCartPole-v0"]
    assert message in found["problem"]
    assert found["digest"] == ""


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (
            {},
            "unknown action None; known: evaluate, check_environment, check_policy, decide, "
            "render_report",
        ),
        ({"action": "train"}, "unknown action 'train'"),
        ({"action": "evaluate"}, "evaluate: experiment: Field required"),
        (
            {"action": "check_environment", "env_id": "CartPole-v1", "gpu": 1},
            "gpu: Extra inputs are not permitted",
        ),
    ],
)
def test_an_invalid_request_is_refused(
    store: DirectoryStore, event: dict[str, Any], message: str
) -> None:
    """An invalid request is refused in one line that names the key."""
    with pytest.raises(InvalidRequestError, match=message):
        answer(event, store, PLENTY)


def test_an_environment_is_described(store: DirectoryStore) -> None:
    """A good environment's description has limits, spaces, versions and speed, and no problem."""
    report = answer({"action": "check_environment", "env_id": "CartPole-v1"}, store, PLENTY)
    assert report["problem"] == ""
    assert report["max_episode_steps"] == 500
    assert report["observation_space"]["shape"] == [4]
    assert report["action_space"]["n"] == 2
    assert report["steps_per_s"] > 100
    assert report["versions"]["gymnasium"]


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        ("CartPol-v1", {}, "did you mean CartPole-v1"),
        ("CartPole-v99", {}, "did you mean CartPole-v1"),
        ("nowhere:Env-v0", {}, "needs the module nowhere, which is not installed here"),
        ("CartPole-v1", {"wind": 3}, "unexpected keyword argument 'wind'"),
    ],
)
def test_an_environment_that_cannot_be_made_is_a_problem(
    store: DirectoryStore, env_id: str, kwargs: dict[str, Any], message: str
) -> None:
    """An unknown environment id is answered with similar ids, not with a traceback."""
    report = answer(
        {"action": "check_environment", "env_id": env_id, "env_kwargs": kwargs}, store, PLENTY
    )
    assert message in report["problem"]
    assert "\n" not in report["problem"]


class ForgetfulEnv(CartPoleEnv):
    """Gets harder with every episode after a few steps, which Gymnasium's checker misses."""

    episodes = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.steps, self.episodes = 0, self.episodes + 1
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        observation, reward, *rest = super().step(action)
        self.steps += 1
        return observation, reward / self.episodes if self.steps > 5 else reward, *rest


def test_an_environment_that_does_not_repeat_itself_gives_a_warning(store: DirectoryStore) -> None:
    """The description warns of an environment that does not repeat itself, and only then."""
    gymnasium.register("Forgetful-v0", entry_point=ForgetfulEnv, max_episode_steps=50)
    try:
        report = answer({"action": "check_environment", "env_id": "Forgetful-v0"}, store, PLENTY)
    finally:
        del gymnasium.registry["Forgetful-v0"]
    assert any(
        "does not repeat an episode for the same seed" in warning for warning in report["warnings"]
    )
    good = answer({"action": "check_environment", "env_id": "LunarLander-v3"}, store, PLENTY)
    assert not any("repeat" in warning for warning in good["warnings"])


def arrival(key: str) -> dict[str, Any]:
    """Build EventBridge's event for a new object."""
    return {
        "version": "0",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "detail": {
            "bucket": {"name": "b"},
            "object": {"key": key, "size": 1},
            "reason": "PutObject",
        },
    }


def test_a_policy_that_arrives_is_evaluated_on_selection_seeds(store: DirectoryStore) -> None:
    """A new policy record starts an evaluation on the run's own selection seeds."""
    spec, _ = store_spec(store)
    key = store_policy(store, spec, policy_for_id("CartPole-v1"))
    stored_key = shard_key("cartpole", "night-1", "select-seed-0-512", 0)
    assert answer(arrival(key), store, PLENTY) == {"key": stored_key, "started": True}
    shard = read_shard(store, stored_key)
    assert (shard.first_seed, len(shard.returns)) == (spec.selection_first_seed, 6)
    assert answer(arrival(key), store, PLENTY)["complete"] is True


@pytest.mark.parametrize(
    "key",
    [
        "policies/cartpole/night-1/seed-0/000000000512.onnx",
        "heartbeats/cartpole/night-1/seed-0.json",
        "policies/cartpole/night-1.json",
        "logs/policies/a/b/c/1.json",
    ],
)
def test_other_objects_are_ignored(store: DirectoryStore, key: str) -> None:
    """Other objects' events give no error, because an error would repeat the delivery."""
    assert answer(arrival(key), store, PLENTY) == {"ignored": True}


def test_other_events_are_ignored(store: DirectoryStore) -> None:
    """Deletions and events of other services are ignored."""
    assert answer({"detail-type": "Object Deleted", "detail": {}}, store, PLENTY) == {
        "ignored": True
    }


def test_an_arrival_that_cannot_be_evaluated_is_refused_not_repeated(store: DirectoryStore) -> None:
    """A record of another spec or trial is refused with a reason and without an error."""
    spec, _ = store_spec(store)
    key = store_policy(store, spec, policy_for_id("CartPole-v1"))
    elsewhere = key.replace("seed-0", "seed-1")
    store.put(elsewhere, get(store, key).data)
    assert (
        "belongs to cartpole/night-1/seed-0 at step 512"
        in answer(arrival(elsewhere), store, PLENTY)["refused"]
    )
    store_spec(store, total_timesteps=2000)
    assert "SHA-256" in answer(arrival(key), store, PLENTY)["refused"]
    assert "does not exist" in answer(arrival(key.replace("512", "513")), store, PLENTY)["refused"]


def test_made_environments_are_not_rendered() -> None:
    """Environments are made without rendering, which can cost time in every step."""
    env = make_environment("LunarLander-v3", {})
    assert env.render_mode is None
    env.close()
