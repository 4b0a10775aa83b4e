"""Write what SB3 does to an observation before the first layer.

It normalizes, stacks, transposes and scales observations, and encodes discrete ones as one-hot
vectors. Then the features extractor flattens or convolves them.
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.vec_env import VecNormalize

from rl_lifecycle.evaluation.policies import OBSERVATION
from rl_trainer.errors import BadInputError
from rl_trainer.onnx_export.graph import Graph
from rl_trainer.onnx_export.memory import PolicyMemory
from rl_trainer.onnx_export.modules import add_chain, add_module

Space = spaces.Space[Any]


def add_features(
    graph: Graph,
    extractor: Any,
    space: Space,
    statistics: VecNormalize | None,
    memory: PolicyMemory,
    *,
    scale_images: bool,
) -> str:
    """Add the inputs and all nodes up to the extractor's features.

    :param space: the environment's space, before SB3 stacks or transposes images.
    :param statistics: the statistics that normalize observations; None if they are not normalized.
    :param memory: the policy's state, which stacks frames if the policy needs it.
    :param scale_images: whether images are divided by 255.
    """
    inputs = add_inputs(graph, space)
    ready = {
        name: _prepared(
            graph,
            value,
            part,
            _moments(statistics, name if isinstance(space, spaces.Dict) else None),
            memory,
            scale_images=scale_images,
        )
        for (name, part), value in zip(parts_of(space).items(), inputs.values(), strict=True)
    }
    return add_extractor(graph, extractor, ready)


def parts_of(space: Space) -> dict[str, Space]:
    """Return the parts of a space by name. A space that is not a Dict is one part, named `obs`."""
    return dict(space.spaces) if isinstance(space, spaces.Dict) else {OBSERVATION: space}


def add_inputs(graph: Graph, space: Space) -> dict[str, str]:
    """Declare one input per part of the space, with the part's type and shape."""
    return {
        name: graph.input(name, _dtype(part), part.shape or ())
        for name, part in parts_of(space).items()
    }


def add_extractor(graph: Graph, extractor: Any, ready: dict[str, str]) -> str:
    """Add SB3's features extractor. :raises BadInputError: if its type cannot be exported."""
    if isinstance(extractor, CombinedExtractor):
        parts = [
            _one_extractor(graph, module, ready[name])
            for name, module in extractor.extractors.items()
        ]
        return graph.node("Concat", *parts, axis=1)
    return _one_extractor(graph, extractor, next(iter(ready.values())))


def _one_extractor(graph: Graph, extractor: Any, value: str) -> str:
    if isinstance(extractor, FlattenExtractor):
        return graph.node("Flatten", value, axis=1)
    if isinstance(extractor, NatureCNN):
        return add_chain(graph, [extractor.cnn, extractor.linear], value)
    try:
        return add_module(graph, extractor, value)
    except BadInputError:
        raise BadInputError(
            f"the features extractor {type(extractor).__name__} cannot be exported to ONNX; "
            "use SB3's FlattenExtractor, NatureCNN or CombinedExtractor"
        ) from None


def _dtype(space: Space) -> str:
    return "int64" if isinstance(space, spaces.Discrete) else str(np.dtype(space.dtype))


def _prepared(
    graph: Graph,
    value: str,
    space: Space,
    moments: dict[str, Any] | None,
    memory: PolicyMemory,
    *,
    scale_images: bool,
) -> str:
    if isinstance(space, spaces.Discrete):
        return _one_hot(graph, value, int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        columns = graph.nodes("Split", value, n_outputs=len(space.nvec), axis=1)
        hot = [
            _one_hot(graph, graph.reshape(column, ()), int(n))
            for column, n in zip(columns, space.nvec, strict=True)
        ]
        return graph.node("Concat", *hot, axis=1)
    value = (
        _normalized(graph, value, moments) if moments is not None else graph.cast(value, "float32")
    )
    value = memory.add_frames(value)
    if not isinstance(space, spaces.Box) or not is_image_space(space):
        return value
    if not is_image_space_channels_first(space):
        value = graph.node("Transpose", value, perm=[0, 3, 1, 2])
    return (
        graph.node("Div", value, graph.constant(255.0))
        if scale_images and moments is None
        else value
    )


def _one_hot(graph: Graph, value: str, n: int) -> str:
    flat = graph.cast(value, "int64")
    return graph.node(
        "OneHot", flat, graph.constant([n], "int64"), graph.constant([0.0, 1.0]), axis=-1
    )


def _normalized(graph: Graph, value: str, moments: dict[str, Any]) -> str:
    """Normalize in 64 bits, as VecNormalize does, then convert to 32 bits."""
    centered = graph.node(
        "Sub", graph.cast(value, "float64"), graph.constant(moments["mean"], "float64")
    )
    scaled = graph.node("Div", centered, graph.constant(moments["deviation"], "float64"))
    clipped = graph.clip(scaled, -moments["clip"], moments["clip"], "float64")
    return graph.cast(clipped, "float32")


def _moments(statistics: VecNormalize | None, key: str | None) -> dict[str, Any] | None:
    if statistics is None or not statistics.norm_obs:
        return None
    found: Any = statistics.obs_rms
    if key is not None:
        if key not in found:
            return None
        found = found[key]
    return {
        "mean": found.mean,
        "deviation": np.sqrt(found.var + statistics.epsilon),
        "clip": statistics.clip_obs,
    }
