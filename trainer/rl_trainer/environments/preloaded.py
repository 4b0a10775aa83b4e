"""What the fork server imports once, for all workers. Nothing else imports this module."""

import gc

from rl_trainer.settings.algorithm_classes import block_tensorboard

block_tensorboard()  # before anything imports SB3's logger

import rl_trainer.environments.factory  # noqa: E402, F401  imports torch, SB3 and Gymnasium

# Collections in the workers then do not write to these objects, whose memory they share.
# Source: https://docs.python.org/3/library/gc.html#gc.freeze
gc.collect()
gc.freeze()
