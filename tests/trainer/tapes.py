"""What a CUDA graph does, on a CPU: kernels are recorded with the memory they read and write, and replayed without any Python between."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rl_trainer.graphs.captures import PlainCalls


class Tape(TorchDispatchMode):
    """Records torch's kernels, those of gradients included."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[tuple[Any, Any, Any, Any]] = []
        self._before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a kernel and write it down, with what it overwrites. :raises RuntimeError: if it reads a value back."""
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        named = (kwargs or {}) | dict(
            zip((parameter.name for parameter in func._schema.arguments), args, strict=False)
        )
        for parameter in func._schema.arguments:
            value = named.get(parameter.name)
            if (
                value is not None
                and parameter.alias_info is not None
                and parameter.alias_info.is_write
            ):
                for tensor in tree_leaves(value):
                    self._before.setdefault(id(tensor), (tensor, tensor.detach().clone()))
        made = func(*args, **(kwargs or {}))
        self.kernels.append((func, args, kwargs or {}, made))
        return made

    def undo(self) -> None:
        """Put back what was overwritten: recording runs nothing."""
        with torch.no_grad():
            for tensor, values in reversed(
                self._before.values()
            ):  # two of them may be the same memory
                tensor.copy_(values)

    def replay(self) -> None:
        """Run every kernel again, into the memory that it wrote to when it was recorded. Views of it are still there."""
        with torch.no_grad():
            for func, args, kwargs, made in self.kernels:
                if any(
                    value.alias_info is not None and not value.alias_info.is_write
                    for value in func._schema.returns
                ):
                    continue
                again = func(*args, **kwargs)
                if not func._schema.is_mutable:
                    for place, values in zip(tree_leaves(made), tree_leaves(again), strict=True):
                        if isinstance(place, torch.Tensor):
                            place.copy_(values)


class TapedCalls(PlainCalls):
    """Records tapes. Adam must be the capturable one, which torch has for GPUs; a test lets it have one on the CPU."""

    without_python = True

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def capture(self, call: Callable[[], None]) -> Callable[[], None]:
        """Record a call."""
        with torch.random.fork_rng(devices=[]), Tape() as tape:
            call()
        tape.undo()
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            tape.replay()

        return replay
