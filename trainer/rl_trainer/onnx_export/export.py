"""A model as the ONNX file that leaves its trial, and what it says of itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize

from rl_lifecycle.evaluation.policies import MAX_BYTES, PolicyMetadata
from rl_lifecycle.experiment.wrappers import WrapperForm
from rl_trainer.checkpointing.digests import digest_arrays
from rl_trainer.checkpointing.model_state import Arrays
from rl_trainer.checkpointing.numeric_class import library_versions
from rl_trainer.errors import BadInputError
from rl_trainer.onnx_export.equality import compare
from rl_trainer.onnx_export.families import add_policy
from rl_trainer.onnx_export.graph import Graph
from rl_trainer.onnx_export.memory import FrameStack
from rl_trainer.onnx_export.observations import Space
from rl_trainer.onnx_export.reference import Observations, Reference
from rl_trainer.onnx_export.spaces import space_form

PACKAGES = (
    "gymnasium",
    "numpy",
    "onnx",
    "onnxruntime",
    "sb3-contrib",
    "stable-baselines3",
    "torch",
)


@dataclass(frozen=True)
class ExportedPolicy:
    """The bytes of a policy, and what it says of itself."""

    onnx: bytes
    metadata: PolicyMetadata


def export_policy(
    model: Any,
    parameters: Arrays,
    *,
    algo: str,
    env_id: str,
    env_kwargs: dict[str, JsonValue],
    observation_space: Space | None = None,
    stack: FrameStack | None = None,
    statistics: VecNormalize | None = None,
    visited: Observations | None = None,
    wrappers: Sequence[WrapperForm] = (),
) -> ExportedPolicy:
    """Write a model as ONNX, check that it acts the same, and add what it is.

    :param parameters: what the digest is over.
    :param observation_space: the environment's; None: the model's.
    :param stack: how frames are stacked; None: not at all.
    :param wrappers: what the environment was in; whoever plays the policy puts it into the same.
    :raises BadInputError: if the policy cannot be written as ONNX.
    """
    space = observation_space if observation_space is not None else model.observation_space
    graph = Graph()
    distribution, recurrent = add_policy(graph, model.policy, space, statistics, stack)
    metadata = PolicyMetadata(
        algo=algo,
        env_id=env_id,
        env_kwargs=env_kwargs,
        observation_space=space_form(space),
        wrappers=tuple(wrappers),
        action_space=space_form(model.action_space),
        digest=digest_arrays(parameters),
        distribution=distribution,
        recurrent=recurrent,
        versions=library_versions(PACKAGES),
        equality={},
    )
    equality = compare(
        graph.to_bytes(metadata.to_json()),
        lambda rows: Reference(model, statistics, stack, rows),
        space,
        model.action_space,
        visited=visited,
        recurrent=recurrent,
    )
    metadata = metadata.with_equality(equality)
    data = graph.to_bytes(metadata.to_json())
    if len(data) > MAX_BYTES:
        raise BadInputError(
            f"the policy takes {len(data)} bytes as ONNX; at most {MAX_BYTES} are allowed"
        )
    return ExportedPolicy(data, metadata)


def check_exportable(model: Any) -> None:
    """Write an untrained model's graph, so that what has no translation is refused before anything
    is trained.

    :raises BadInputError: naming the layer, space or policy.
    """
    space, stack = raw_space(model.env)
    space_form(space)
    add_policy(Graph(), model.policy, space, model.get_vec_normalize_env(), stack)


def raw_space(env: VecEnv) -> tuple[Space, FrameStack | None]:
    """The observation space of the environment itself, and how its frames are stacked on the way to
    the model.
    """
    stack = None
    while hasattr(env, "venv"):
        if isinstance(env, VecFrameStack):
            stack = FrameStack.of(env)
        env = env.venv
    return env.observation_space, stack
