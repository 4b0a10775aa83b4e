"""The table of SB3's classes and the NumPy classes that replace them in training."""

from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm

from rl_trainer.numpy_path.off_policy import NumpyDDPG, NumpyDQN, NumpyOffPolicy, NumpySAC, NumpyTD3
from rl_trainer.numpy_path.on_policy import NumpyA2C, NumpyOnPolicy, NumpyPPO

#: SB3's class → the NumPy class.
NUMPY_CLASSES: dict[type[BaseAlgorithm], type[NumpyOnPolicy | NumpyOffPolicy]] = {
    PPO: NumpyPPO,
    A2C: NumpyA2C,
    SAC: NumpySAC,
    TD3: NumpyTD3,
    DDPG: NumpyDDPG,
    DQN: NumpyDQN,
}
