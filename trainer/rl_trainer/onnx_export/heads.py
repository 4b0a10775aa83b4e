"""Write the last layers of each family of SB3's policies, from features to actions.

The outputs are the deterministic action and the parameters of the distribution. The functions
return the kind of distribution, by the contract's name.
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN

from rl_lifecycle.evaluation.policies import ACTION, FORBIDDEN, LOG_STD, LOGITS, MEAN
from rl_trainer.errors import BadInputError
from rl_trainer.onnx_export.graph import Graph
from rl_trainer.onnx_export.modules import add_chain, add_module

#: The number that SB3 adds inside the root of gSDE's deviation, against a root of zero.
SDE_EPSILON = 1e-6


def add_actor_critic(graph: Graph, policy: Any, features: str, masks: str | None = None) -> str:
    """Add the actor of PPO, A2C, TRPO and their relatives.

    :param masks: the input that says which actions are allowed; None if all are.
    """
    latent = add_chain(graph, policy.mlp_extractor.policy_net, features)
    return add_action_net(graph, policy, latent, masks)


def add_action_net(graph: Graph, policy: Any, latent: str, masks: str | None = None) -> str:
    """Add the last layer of an actor-critic policy and its distribution."""
    outputs, space = add_module(graph, policy.action_net, latent), policy.action_space
    if masks is not None:
        outputs = graph.node("Where", masks, outputs, graph.constant(FORBIDDEN))
        if isinstance(space, spaces.MultiBinary):
            return _masked_bits(graph, outputs, space)
    if isinstance(space, spaces.Discrete):
        return _categorical(graph, outputs, int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return _multi_categorical(graph, outputs, [int(n) for n in space.nvec])
    if isinstance(space, spaces.MultiBinary):
        return _bernoulli(graph, outputs, space)

    if policy.squash_output:
        _squashed(graph, outputs, space)
    else:
        _clipped(graph, outputs, space)
    _moments(graph, outputs, _log_std(graph, policy, outputs, latent), space)
    return "squashed_gaussian" if policy.squash_output else "gaussian"


def add_q_values(graph: Graph, outputs: str) -> str:
    """Add the output of DQN and QR-DQN: the action with the highest value.

    Their random exploration belongs to the training, so the policy has no distribution.
    """
    graph.output(graph.node("ArgMax", outputs, axis=1, keepdims=0), ACTION, "int64", ())
    return "none"


def add_deterministic_actor(graph: Graph, actor: Any, features: str) -> str:
    """Add the actor of TD3 and DDPG."""
    _unscaled(graph, add_module(graph, actor.mu, features), actor.action_space)
    return "none"


def add_squashed_actor(graph: Graph, actor: Any, features: str) -> str:
    """Add the actor of SAC, TQC and CrossQ: a Gaussian whose draws are squashed by tanh."""
    latent, space = add_module(graph, actor.latent_pi, features), actor.action_space
    mean = add_module(graph, actor.mu, latent)
    _squashed(graph, mean, space)
    if actor.use_sde:
        log_std = _log_std(graph, actor, mean, latent)
    else:
        log_std = graph.clip(add_module(graph, actor.log_std, latent), LOG_STD_MIN, LOG_STD_MAX)
    _moments(graph, mean, log_std, space)
    return "squashed_gaussian"


def add_ars(graph: Graph, policy: Any, outputs: str) -> str:
    """Add the output of ARS, a deterministic network that contains the squashing layer if any."""
    if isinstance(policy.action_space, spaces.Discrete):
        return add_q_values(graph, outputs)
    (_unscaled if policy.squash_output else _clipped)(graph, outputs, policy.action_space)
    return "none"


def _categorical(graph: Graph, logits: str, n: int) -> str:
    graph.output(graph.node("ArgMax", logits, axis=1, keepdims=0), ACTION, "int64", ())
    graph.output(logits, LOGITS, "float32", (n,))
    return "categorical"


def _multi_categorical(graph: Graph, logits: str, sizes: list[int]) -> str:
    parts = graph.nodes(
        "Split", logits, graph.constant(sizes, "int64"), n_outputs=len(sizes), axis=1
    )
    chosen = [graph.node("ArgMax", part, axis=1, keepdims=1) for part in parts]
    graph.output(graph.node("Concat", *chosen, axis=1), ACTION, "int64", (len(sizes),))
    graph.output(logits, LOGITS, "float32", (sum(sizes),))
    return "multi_categorical"


def _masked_bits(graph: Graph, logits: str, space: spaces.MultiBinary) -> str:
    """Add one choice of two options for each bit, as sb3-contrib does under masks."""
    bits = int(np.prod(space.shape))
    pairs = graph.reshape(logits, (bits, 2))
    chosen = graph.cast(graph.node("ArgMax", pairs, axis=2, keepdims=0), "int8")
    graph.output(graph.reshape(chosen, space.shape), ACTION, "int8", space.shape)
    graph.output(logits, LOGITS, "float32", (2 * bits,))
    return "multi_categorical"


def _bernoulli(graph: Graph, logits: str, space: spaces.MultiBinary) -> str:
    """Add the action 1 where the logit is above 0.

    SB3 rounds the probability, and torch rounds half to even. So a probability of 0.5, which is a
    logit of 0, gives the action 0.
    """
    chosen = graph.cast(graph.node("Greater", logits, graph.constant(0.0)), "int8")
    graph.output(graph.reshape(chosen, space.shape), ACTION, "int8", space.shape)
    graph.output(logits, LOGITS, "float32", (int(np.prod(space.shape)),))
    return "bernoulli"


def _clipped(graph: Graph, mean: str, space: spaces.Box) -> None:
    clipped = graph.clip(graph.reshape(mean, space.shape), space.low, space.high)
    graph.output(clipped, ACTION, "float32", space.shape)


def _squashed(graph: Graph, mean: str, space: spaces.Box) -> None:
    _unscaled(graph, graph.node("Tanh", mean), space)


def _unscaled(graph: Graph, scaled: str, space: spaces.Box) -> None:
    """Scale from [-1, 1] to the space: low + 0.5 (a + 1) (high - low), in SB3's order."""
    shaped = graph.reshape(scaled, space.shape)
    half = graph.node("Mul", graph.constant(0.5), graph.node("Add", shaped, graph.constant(1.0)))
    spread = graph.node("Mul", half, graph.constant(space.high - space.low))
    graph.output(
        graph.node("Add", graph.constant(space.low), spread), ACTION, "float32", space.shape
    )


def _moments(graph: Graph, mean: str, log_std: str, space: spaces.Box) -> None:
    """Add a Gaussian's parameters as outputs, one row per observation, before clip and tanh."""
    graph.output(mean, MEAN, "float32", (_width(space),))
    graph.output(log_std, LOG_STD, "float32", (_width(space),))


def _log_std(graph: Graph, policy: Any, mean: str, latent: str) -> str:
    """Add the logarithm of the deviation, one row per observation.

    It is a parameter, or with gSDE a function of the latent features.
    """
    zeros = graph.node("Mul", mean, graph.constant(0.0))
    distribution = policy.action_dist
    if not isinstance(distribution, StateDependentNoiseDistribution):
        return graph.node("Add", zeros, graph.constant(policy.log_std.detach().cpu().numpy()))
    if distribution.latent_sde_dim is None:
        raise BadInputError(
            "a policy with gSDE cannot be exported before its first use; train it first"
        )
    deviation = distribution.get_std(policy.log_std).detach().cpu().numpy()
    variance = graph.node("MatMul", graph.node("Mul", latent, latent), graph.constant(deviation**2))
    return graph.node(
        "Log", graph.node("Sqrt", graph.node("Add", variance, graph.constant(SDE_EPSILON)))
    )


def _width(space: spaces.Box) -> int:
    return int(np.prod(space.shape))
