"""Recording what a function does on the GPU, to do it again without Python: the only place that needs CUDA.

Source: https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import gc
import warnings
from collections.abc import Callable
from typing import Protocol

import torch


class Capturer(Protocol):
    """Records calls that read and write tensors which stay where they are."""

    #: Where those tensors are, by torch's name.
    device: str
    #: Whether what is recorded runs without Python, so that Adam must take the form that torch calls `capturable`.
    without_python: bool
    #: Whether a failure may harm the process in which it happens, so that a process of its own tries it first.
    #: Then the class takes no arguments: that process makes another one.
    may_do_harm: bool

    def warm_up(self, call: Callable[[], None]) -> None:
        """Run a call as often as the libraries below need before it can be recorded: it has all its effects."""

    def capture(self, call: Callable[[], None]) -> Callable[[], None]:
        """Record a call without running it. :return: runs it, as often as one likes."""


class CudaGraphs:
    """Records CUDA graphs.

    All warming up and recording happens on one stream of its own: gradients are accumulated on the stream on which a parameter
    was first used, and libraries keep handles for each stream, so a second one would reach into the recording.
    """

    #: How often torch's documentation runs a call before it is recorded.
    WARM_UPS = 3
    device = "cuda"
    without_python = True
    may_do_harm = True

    def __init__(self) -> None:
        # An optimizer that can be recorded also takes the steps that are not, and torch warns of that.
        warnings.filterwarnings(
            "ignore", message="This instance was constructed with capturable=True"
        )
        self._stream: torch.cuda.Stream = torch.cuda.Stream(torch.device(self.device))  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def warm_up(self, call: Callable[[], None]) -> None:
        """Run a call three times on the stream that will record it."""
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            for _ in range(self.WARM_UPS):
                call()
        torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)

    def capture(self, call: Callable[[], None]) -> Callable[[], None]:
        """Record a call as a graph. :raises RuntimeError: if it does what cannot be recorded, such as waiting for the GPU."""
        gc.collect()  # SB3's models are cycles: that of the segment before may still hold its recordings' memory
        graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(self._stream.device)
        # The thread that commits the segment before exports its policy meanwhile, and may allocate: that is no error of this one.
        # If a recording fails, torch leaves its stream the current one, so the one before is put back around it.
        with (
            torch.cuda.stream(current),
            torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            call()
        return lambda: graph.replay()


class PlainCalls:
    """Stands in for CUDA graphs on a CPU, so that all else is tested there: what it gives runs the call itself. No setting leads here."""

    device = "cpu"
    without_python = False
    may_do_harm = False

    def warm_up(self, call: Callable[[], None]) -> None:
        """Run the call as often as :class:`CudaGraphs` would."""
        for _ in range(CudaGraphs.WARM_UPS):
            call()

    def capture(self, call: Callable[[], None]) -> Callable[[], None]:
        """Give the call back; nothing is run."""
        return call
