"""A model as the files that leave its trial: ONNX, parameters, and metadata."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import JsonValue
from safetensors.numpy import save as save_safetensors
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize, unwrap_vec_normalize

from rl_lifecycle.policies import MAX_BYTES, PolicyMetadata
from rl_trainer.digests import digest_arrays
from rl_trainer.errors import BadInputError
from rl_trainer.model_state import Arrays
from rl_trainer.numeric_class import library_versions
from rl_trainer.onnx_export.equality import Observations, compare
from rl_trainer.onnx_export.families import add_policy
from rl_trainer.onnx_export.graph import Graph
from rl_trainer.onnx_export.observations import Space
from rl_trainer.onnx_export.spaces import space_form

PACKAGES = ("gymnasium", "numpy", "onnx", "onnxruntime", "sb3-contrib", "stable-baselines3", "torch")
#: How many visited observations the equality check looks at.
VISITED = 256


@dataclass(frozen=True)
class ExportedPolicy:
    """The bytes of a policy, and what it says of itself."""

    onnx: bytes
    parameters: bytes
    metadata: PolicyMetadata


def export_policy(model: Any, parameters: Arrays, *, algo: str, env_id: str, env_kwargs: dict[str, JsonValue],
                  observation_space: Space | None = None, statistics: VecNormalize | None = None,
                  visited: Observations | None = None) -> ExportedPolicy:
    """Write a model as ONNX, check that it acts the same, and add what it is.

    :param parameters: what the digest is over, and what the safetensors file holds.
    :param observation_space: the environment's; None: the model's.
    :raises BadInputError: if the policy cannot be written as ONNX.
    """
    space = observation_space if observation_space is not None else model.observation_space
    graph = Graph()
    distribution = add_policy(graph, model.policy, space, statistics)
    metadata = PolicyMetadata(
        algo=algo, env_id=env_id, env_kwargs=env_kwargs, observation_space=space_form(space),
        action_space=space_form(model.action_space), digest=digest_arrays(parameters), distribution=distribution,
        versions=library_versions(PACKAGES), equality={})
    equality = compare(graph.to_bytes(metadata.to_json()), model, space, statistics, visited)
    metadata = metadata.model_copy(update={"equality": equality})
    data = graph.to_bytes(metadata.to_json())
    if len(data) > MAX_BYTES:
        raise BadInputError(f"the policy takes {len(data)} bytes as ONNX; at most {MAX_BYTES} are allowed")
    return ExportedPolicy(data, save_safetensors(parameters), metadata)


def raw_space(env: VecEnv) -> Space:
    """The observation space of the environment itself. :raises BadInputError: if frames are stacked."""
    while hasattr(env, "venv"):
        if isinstance(env, VecFrameStack):
            raise BadInputError("a policy on stacked frames cannot be exported yet: stack them inside the environment with "
                                "env_wrapper: gymnasium.wrappers.FrameStackObservation")
        env = env.venv
    return env.observation_space


def visited_observations(model: Any) -> Observations | None:
    """Some of the last observations of the training, as the environment gave them; None if the model keeps none."""
    buffer = getattr(model, "rollout_buffer", None) or getattr(model, "replay_buffer", None)
    if buffer is None or isinstance(buffer.observations, dict):
        return None
    filled = buffer.buffer_size if buffer.full else buffer.pos
    rows = np.asarray(buffer.observations[:filled])
    rows = rows.reshape(-1, *model.observation_space.shape)[-VISITED:]
    statistics = unwrap_vec_normalize(model.env) if model.env is not None else None
    if statistics is not None and getattr(model, "rollout_buffer", None) is not None:
        rows = np.asarray(statistics.unnormalize_obs(rows)).astype(model.observation_space.dtype)
    return rows if len(rows) else None
