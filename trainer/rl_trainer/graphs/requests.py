"""What an experiment asks of a GPU, against what this machine has."""

import torch

from rl_lifecycle.experiments import Compute
from rl_trainer.errors import BadInputError
from rl_trainer.graphs.captures import Capturer, CudaGraphs


def find_capturer(compute: Compute) -> Capturer | None:
    """Give what records updates on this machine's GPU; None if the experiment does not ask for it.

    :raises BadInputError: if it asks, and there is no GPU here.
    """
    if compute.gpu_updates != "cuda_graphs":
        return None
    if not torch.cuda.is_available():
        raise BadInputError("compute.gpu_updates: cuda_graphs needs an NVIDIA GPU and torch's CUDA build, and torch finds none on this "
                            "machine: name types with a GPU in compute.instance_types, or set it to sb3")
    return CudaGraphs()
