"""Export a model as an ONNX file with metadata that describes it."""

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
from rl_trainer.onnx_export.families import add_policy, needs_masks
from rl_trainer.onnx_export.graph import Graph
from rl_trainer.onnx_export.memory import FrameStack
from rl_trainer.onnx_export.observations import Space
from rl_trainer.onnx_export.reference import Observations, Reference
from rl_trainer.onnx_export.spaces import space_form

#: Packages whose versions the metadata records.
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
    """The bytes of an ONNX policy, and the metadata that they contain."""

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
    """Write a model as ONNX, check that it acts as the model does, and add its metadata.

    :param parameters: the parameters that the digest covers.
    :param observation_space: the environment's observation space; None for the model's.
    :param stack: how frames are stacked; None if they are not stacked.
    :param statistics: the statistics that normalize observations; None without VecNormalize.
    :param visited: observations from the training, for the check; None to check with sampled ones.
    :param wrappers: the wrappers of the training's environment. The evaluator uses the same ones.
    :raises BadInputError: if the policy cannot be written as ONNX.
    :raises UnequalPolicyError: if the written policy does not act as the model does.
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
        action_masks=needs_masks(model.policy),
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
            f"the policy has {len(data)} bytes as ONNX, but at most {MAX_BYTES} are allowed; "
            "train a smaller network"
        )
    return ExportedPolicy(data, metadata)


def check_exportable(model: Any) -> None:
    """Write an untrained model's graph, so that the training of a model without an export fails.

    :raises BadInputError: if the model cannot be exported; the message names the layer, space or
        policy.
    """
    space, stack = raw_space(model.env)
    space_form(space)
    add_policy(Graph(), model.policy, space, model.get_vec_normalize_env(), stack)


def raw_space(env: VecEnv) -> tuple[Space, FrameStack | None]:
    """Return the innermost environment's observation space, and how its frames are stacked."""
    stack = None
    while hasattr(env, "venv"):
        if isinstance(env, VecFrameStack):
            stack = FrameStack.of(env)
        env = env.venv
    return env.observation_space, stack
