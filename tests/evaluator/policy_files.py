"""Small ONNX policies for tests, built by hand so that no trainer is needed."""

from typing import Any

import gymnasium
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rl_evaluator.playing.spaces import describe_space
from rl_lifecycle.evaluation.policies import METADATA_KEY, OBSERVATION, PolicyMetadata, SpaceForm
from rl_lifecycle.records.record import canonical_json

Array = np.ndarray[Any, Any]


def policy_bytes(
    observation: SpaceForm,
    action: SpaceForm,
    *,
    seed: int = 0,
    recurrent: bool = False,
    env_id: str = "Test-v0",
    hidden: list[tuple[Array, Array]] | None = None,
    head: tuple[Array, Array] | None = None,
    log_std: float = -1.0,
    scale: float = 1.0,
    digest: str = "d" * 64,
    edit: Any = None,
) -> bytes:
    """Build a policy of the contract for any spaces.

    :param hidden: weights (out, in) and biases of the tanh layers; None draws random values

    :param head: weights and biases of the last layer; None draws random values

    :param edit: called with the finished ONNX model, for example to break it
    """
    graph = _Graph(np.random.default_rng(seed), scale)
    parts = observation.spaces if observation.kind == "Dict" else {OBSERVATION: observation}
    features = graph.features(parts)
    width = sum(int(np.prod(part.shape)) for part in parts.values())
    if recurrent:
        features, width = graph.memory(features, width)
    for layer in hidden if hidden is not None else [graph.layer(8, width)]:
        features, width = graph.node("Tanh", [graph.dense(features, layer)]), len(layer[1])
    distribution = graph.head(features, width, action, head, log_std)
    metadata = PolicyMetadata(
        algo="ppo",
        env_id=env_id,
        observation_space=observation,
        action_space=action,
        digest=digest,
        distribution=distribution,
        recurrent=recurrent,
        versions={},
        equality={},
    )
    model = graph.model()
    helper.set_model_props(
        model, {METADATA_KEY: canonical_json(metadata.model_dump(mode="json")).decode()}
    )
    if edit is not None:
        edit(model)
    return model.SerializeToString()


def policy_for(env: gymnasium.Env[Any, Any], **options: Any) -> bytes:
    """Build a random policy for an environment's spaces."""
    return policy_bytes(
        describe_space(env.observation_space), describe_space(env.action_space), **options
    )


def policy_for_id(env_id: str, **options: Any) -> bytes:
    """Build a random policy for a registered environment."""
    return policy_for(gymnasium.make(env_id), env_id=env_id, **options)


class _Graph:
    """Collects nodes, inputs, outputs and weights."""

    def __init__(self, rng: np.random.Generator, scale: float) -> None:
        self.rng, self.scale = rng, scale
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def constant(self, values: Any) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(
        self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any
    ) -> str:
        name = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def layer(self, n_out: int, n_in: int) -> tuple[Array, Array]:
        return (
            (self.rng.normal(size=(n_out, n_in)) * self.scale).astype(np.float32),
            (self.rng.normal(size=n_out) * self.scale).astype(np.float32),
        )

    def dense(self, features: str, layer: tuple[Array, Array]) -> str:
        return self.node(
            "Gemm", [features, self.constant(layer[0]), self.constant(layer[1])], transB=1
        )

    def output(self, name: str, kind: int, shape: tuple[int, ...]) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, kind, ["batch", *shape]))

    def features(self, parts: dict[str, SpaceForm]) -> str:
        flat = []
        for name, part in parts.items():
            kind = {
                "uint8": TensorProto.UINT8,
                "int64": TensorProto.INT64,
                "int8": TensorProto.INT8,
            }.get(part.dtype, TensorProto.FLOAT)
            self.inputs.append(helper.make_tensor_value_info(name, kind, ["batch", *part.shape]))
            numbers = self.node("Cast", [name], to=TensorProto.FLOAT)
            if part.dtype == "uint8":
                numbers = self.node("Div", [numbers, self.constant(np.float32(255))])
            flat.append(
                self.node(
                    "Reshape", [numbers, self.constant(np.array([-1, int(np.prod(part.shape))]))]
                )
            )
        return self.node("Concat", flat, axis=1) if len(flat) > 1 else flat[0]

    def memory(self, features: str, width: int, size: int = 4) -> tuple[str, int]:
        self.inputs.append(
            helper.make_tensor_value_info("state_in", TensorProto.FLOAT, ["batch", size])
        )
        both = self.node("Concat", [features, "state_in"], axis=1)
        state = self.node("Tanh", [self.dense(both, self.layer(size, width + size))], "state_out")
        self.output("state_out", TensorProto.FLOAT, (size,))
        return state, size

    def head(
        self,
        features: str,
        width: int,
        action: SpaceForm,
        head: tuple[Array, Array] | None,
        log_std: float,
    ) -> str:
        counts = (
            action.n if isinstance(action.n, tuple) else (action.n or int(np.prod(action.shape)),)
        )
        size = sum(counts)
        if action.kind == "Box":
            mean = self.dense(features, head or self.layer(size, width))
            shaped = self.node(
                "Reshape", [mean, self.constant(np.array([-1, *action.shape]))], "mean"
            )
            self.output("mean", TensorProto.FLOAT, action.shape)
            zeros = self.node("Mul", [shaped, self.constant(np.float32(0))])
            self.node("Add", [zeros, self.constant(np.float32(log_std))], "log_std")
            self.output("log_std", TensorProto.FLOAT, action.shape)
            full = (
                np.reshape(bound, action.shape)
                if np.size(bound) > 1
                else np.full(action.shape, bound)
                for bound in (action.low, action.high)
            )
            bounds = [self.constant(bound[None].astype(np.float32)) for bound in full]
            self.node("Min", [self.node("Max", [shaped, bounds[0]]), bounds[1]], "action")
            self.output("action", TensorProto.FLOAT, action.shape)
            return "gaussian"
        logits = self.dense(features, head or self.layer(size, width))
        self.node("Identity", [logits], "logits")
        self.output("logits", TensorProto.FLOAT, (size,))
        if action.kind == "MultiBinary":
            yes = self.node("Greater", ["logits", self.constant(np.float32(0))])
            self.node("Cast", [yes], "action", to=TensorProto.INT8)
            self.output("action", TensorProto.INT8, (size,))
            return "bernoulli"
        if action.kind == "MultiDiscrete":
            names = [f"part{index}" for index in range(len(counts))]
            self.nodes.append(
                helper.make_node(
                    "Split", ["logits", self.constant(np.array(counts))], names, axis=1
                )
            )
            best = [self.node("ArgMax", [name], axis=1, keepdims=1) for name in names]
            self.node("Concat", best, "action", axis=1)
            self.output("action", TensorProto.INT64, action.shape)
            return "multi_categorical"
        best_one = self.node("ArgMax", ["logits"], axis=1, keepdims=0)
        self.node("Add", [best_one, self.constant(np.int64(action.start))], "action")
        self.output("action", TensorProto.INT64, ())
        return "categorical"

    def model(self) -> Any:
        graph = helper.make_graph(self.nodes, "policy", self.inputs, self.outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model
