"""Choose the function that writes an SB3 policy's network into a graph."""

from collections.abc import Callable
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from rl_lifecycle.evaluation.action_masks import choice_sizes
from rl_lifecycle.evaluation.policies import ACTION_MASKS
from rl_lifecycle.experiment.algorithms import Exporter
from rl_trainer.errors import BadInputError
from rl_trainer.onnx_export import heads
from rl_trainer.onnx_export.graph import Graph
from rl_trainer.onnx_export.memory import FrameStack, PolicyMemory
from rl_trainer.onnx_export.modules import add_module, register_contrib
from rl_trainer.onnx_export.observations import Space, add_features
from rl_trainer.onnx_export.spaces import space_form

Writer = Callable[[Graph, Any, Callable[[Any], str]], str]


def add_policy(
    graph: Graph,
    policy: Any,
    space: Space,
    statistics: VecNormalize | None,
    stack: FrameStack | None,
) -> tuple[str, bool]:
    """Add a whole policy to a graph: inputs, network and outputs.

    :param space: the environment's observation space.
    :param statistics: the statistics that normalize observations; None without VecNormalize.
    :param stack: how frames are stacked; None if they are not stacked.
    :return: the kind of distribution, by the contract's name, and whether the policy has a state.
    :raises BadInputError: if the policy cannot be exported.
    """
    register_contrib()
    memory = PolicyMemory(graph, stack, getattr(policy, "lstm_actor", None))

    def features(extractor: Any) -> str:
        found = add_features(
            graph, extractor, space, statistics, memory, scale_images=policy.normalize_images
        )
        return memory.add_lstm(found)

    distribution = WRITERS[exporter_of(policy)](graph, policy, features)
    return distribution, memory.declare_output()


def exporter_of(policy: Any) -> Exporter:
    """Return the exporter of a policy's class.

    :raises BadInputError: if the class has no exporter.
    """
    from sb3_contrib.ars.policies import ARSPolicy
    from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
    from sb3_contrib.crossq.policies import CrossQPolicy
    from sb3_contrib.qrdqn.policies import QRDQNPolicy
    from sb3_contrib.tqc.policies import TQCPolicy

    kinds: dict[Exporter, tuple[type, ...]] = {
        Exporter.ACTOR_CRITIC: (ActorCriticPolicy, MaskableActorCriticPolicy),
        Exporter.SQUASHED: (SACPolicy, TQCPolicy, CrossQPolicy),
        Exporter.DETERMINISTIC: (TD3Policy,),
        Exporter.Q_VALUES: (DQNPolicy,),
        Exporter.QUANTILES: (QRDQNPolicy,),
        Exporter.LINEAR: (ARSPolicy,),
    }
    for exporter, classes in kinds.items():
        if isinstance(policy, classes):
            return exporter
    raise BadInputError(
        f"a policy of type {type(policy).__name__} cannot be exported to ONNX; use a policy of SB3 "
        "or sb3-contrib"
    )


def _actor_critic(graph: Graph, policy: Any, features: Callable[[Any], str]) -> str:
    return heads.add_actor_critic(
        graph, policy, features(policy.pi_features_extractor), _mask_input(graph, policy)
    )


def needs_masks(policy: Any) -> bool:
    """Whether a policy was trained under action masks."""
    from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy

    return isinstance(policy, MaskableActorCriticPolicy)


def _mask_input(graph: Graph, policy: Any) -> str | None:
    """Declare the input for action masks. :return: None if the policy has none."""
    if not needs_masks(policy):
        return None
    if isinstance(policy.observation_space, spaces.Dict) and ACTION_MASKS in (
        policy.observation_space.spaces
    ):
        raise BadInputError(
            f"env_id: the observation {ACTION_MASKS!r} has the name of the policy's input for "
            "masks; give it another name"
        )
    width = sum(choice_sizes(space_form(policy.action_space)))
    return graph.input(ACTION_MASKS, "bool", (width,))


def _squashed(graph: Graph, policy: Any, features: Callable[[Any], str]) -> str:
    return heads.add_squashed_actor(graph, policy.actor, features(policy.actor.features_extractor))


def _deterministic(graph: Graph, policy: Any, features: Callable[[Any], str]) -> str:
    return heads.add_deterministic_actor(
        graph, policy.actor, features(policy.actor.features_extractor)
    )


def _q_values(graph: Graph, policy: Any, features: Callable[[Any], str]) -> str:
    outputs = add_module(graph, policy.q_net.q_net, features(policy.q_net.features_extractor))
    return heads.add_q_values(graph, outputs)


def _linear(graph: Graph, policy: Any, features: Callable[[Any], str]) -> str:
    return heads.add_ars(
        graph, policy, add_module(graph, policy.action_net, features(policy.features_extractor))
    )


def _quantiles(graph: Graph, policy: Any, features: Callable[[Any], str]) -> str:
    net = policy.quantile_net
    flat = add_module(graph, net.quantile_net, features(net.features_extractor))
    quantiles = graph.reshape(flat, (net.n_quantiles, int(policy.action_space.n)))
    outputs = graph.node("ReduceMean", quantiles, axes=[1], keepdims=0)
    return heads.add_q_values(graph, outputs)


WRITERS: dict[Exporter, Writer] = {
    Exporter.ACTOR_CRITIC: _actor_critic,
    Exporter.SQUASHED: _squashed,
    Exporter.DETERMINISTIC: _deterministic,
    Exporter.Q_VALUES: _q_values,
    Exporter.QUANTILES: _quantiles,
    Exporter.LINEAR: _linear,
}
