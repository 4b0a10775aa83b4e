"""What an experiment asks of a GPU, against what this machine has."""

import torch

from rl_lifecycle.experiments import Compute
from rl_trainer.errors import BadInputError, OtherHardwareError
from rl_trainer.graphs.captures import Capturer, CudaGraphs


def find_capturer(compute: Compute, *, begun: bool = False) -> Capturer | None:
    """Give what records updates on this machine's GPU; None if the experiment does not ask for it.

    :param begun: whether a checkpoint shows that a machine could train this; then it is this machine that lacks its GPU.
    :raises BadInputError: if it asks, and there is no GPU here. :raises OtherHardwareError: likewise, if the training has begun.
    """
    if compute.gpu_updates != "cuda_graphs":
        return None
    if not torch.cuda.is_available():
        if begun:
            raise OtherHardwareError(
                "compute.gpu_updates: cuda_graphs needs an NVIDIA GPU, and torch finds none on this machine, though "
                "the training has begun with one: go on on a machine whose GPU works"
            )
        raise BadInputError(
            "compute.gpu_updates: cuda_graphs needs an NVIDIA GPU and torch's CUDA build, and torch finds none on this "
            "machine: name types with a GPU in compute.instance_types, or set it to sb3"
        )
    return CudaGraphs()
