"""Write torch modules as ONNX nodes."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from rl_trainer.errors import BadInputError
from rl_trainer.onnx_export.graph import Graph

#: torch's activation → the ONNX operator and its attributes.
ACTIVATIONS: dict[type[nn.Module], tuple[str, dict[str, Any]]] = {
    nn.Tanh: ("Tanh", {}),
    nn.ReLU: ("Relu", {}),
    nn.Sigmoid: ("Sigmoid", {}),
    nn.ELU: ("Elu", {}),
    nn.Softplus: ("Softplus", {}),
    nn.LeakyReLU: ("LeakyRelu", {"alpha": 0.01}),
}


def add_module(graph: Graph, module: nn.Module, value: str) -> str:
    """Add a module. :raises BadInputError: if the module's type cannot be exported."""
    if isinstance(module, nn.Sequential):
        return add_chain(graph, module, value)
    for kind, writer in WRITERS.items():
        if type(module) is kind:
            return writer(graph, module, value)
    raise BadInputError(
        f"a layer of type {type(module).__name__} cannot be exported to ONNX; use one of "
        f"{', '.join(sorted(kind.__name__ for kind in WRITERS))}"
    )


def add_chain(graph: Graph, modules: Iterable[nn.Module], value: str) -> str:
    """Add modules one after another."""
    for module in modules:
        value = add_module(graph, module, value)
    return value


def _linear(graph: Graph, module: Any, value: str) -> str:
    weight = graph.constant(_numpy(module.weight))
    inputs = [value, weight] + (
        [graph.constant(_numpy(module.bias))] if module.bias is not None else []
    )
    return graph.node("Gemm", *inputs, transB=1)


def _convolution(graph: Graph, module: Any, value: str) -> str:
    inputs = [value, graph.constant(_numpy(module.weight))]
    if module.bias is not None:
        inputs.append(graph.constant(_numpy(module.bias)))
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise BadInputError(
            f"a convolution with padding {module.padding!r} and padding_mode "
            f"{module.padding_mode!r} cannot be exported to ONNX; use numbers and zeros"
        )
    return graph.node(
        "Conv",
        *inputs,
        kernel_shape=list(module.kernel_size),
        strides=list(module.stride),
        pads=[*module.padding, *module.padding],
        dilations=list(module.dilation),
        group=module.groups,
    )


def _flatten(graph: Graph, _module: Any, value: str) -> str:
    return graph.node("Flatten", value, axis=1)


def _identity(_graph: Graph, _module: Any, value: str) -> str:
    return value


def _hardtanh(graph: Graph, module: Any, value: str) -> str:
    return graph.node("Clip", value, graph.constant(module.min_val), graph.constant(module.max_val))


def _layer_norm(graph: Graph, module: Any, value: str) -> str:
    return graph.node(
        "LayerNormalization",
        value,
        graph.constant(_numpy(module.weight)),
        graph.constant(_numpy(module.bias)),
        axis=-len(module.normalized_shape),
        epsilon=module.eps,
    )


def _silu(graph: Graph, _module: Any, value: str) -> str:
    return graph.node("Mul", value, graph.node("Sigmoid", value))


def _batch_renorm(graph: Graph, module: Any, value: str) -> str:
    """Add sb3-contrib's BatchRenorm as it predicts: running statistics, then scale and shift."""
    centered = graph.node("Sub", value, graph.constant(_numpy(module.ra_mean)))
    scaled = graph.node(
        "Div", centered, graph.constant(_numpy((module.ra_var + module.eps).sqrt()))
    )
    if not module.affine:
        return scaled
    return graph.node(
        "Add",
        graph.node("Mul", scaled, graph.constant(_numpy(module.scale))),
        graph.constant(_numpy(module.bias)),
    )


def _activation(graph: Graph, module: nn.Module, value: str) -> str:
    operator, attributes = ACTIVATIONS[type(module)]
    if isinstance(module, nn.LeakyReLU):
        attributes = {"alpha": module.negative_slope}
    if isinstance(module, nn.ELU):
        attributes = {"alpha": module.alpha}
    return graph.node(operator, value, **attributes)


def _numpy(tensor: torch.Tensor) -> Any:
    return tensor.detach().cpu().numpy()


Writer = Callable[[Graph, Any, str], str]
WRITERS: dict[type[nn.Module], Writer] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.Flatten: _flatten,
    nn.Identity: _identity,
    nn.Dropout: _identity,
    nn.Hardtanh: _hardtanh,
    nn.LayerNorm: _layer_norm,
    nn.SiLU: _silu,
    **dict.fromkeys(ACTIVATIONS, _activation),
}


def register_contrib() -> None:
    """Add the layers of sb3-contrib to WRITERS. The import is late, because it takes time."""
    from sb3_contrib.common.torch_layers import BatchRenorm1d

    WRITERS.setdefault(BatchRenorm1d, _batch_renorm)
