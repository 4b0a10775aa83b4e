"""Which NumPy class trains in the place of which of SB3's."""

from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm

from rl_trainer.numpy_path.algorithms import NumpyA2C, NumpyOnPolicy, NumpyPPO
from rl_trainer.numpy_path.off_policy import NumpyDDPG, NumpyDQN, NumpyOffPolicy, NumpySAC, NumpyTD3

#: SB3's class → ours.
NUMPY_CLASSES: dict[type[BaseAlgorithm], type[NumpyOnPolicy | NumpyOffPolicy]] = {
    PPO: NumpyPPO,
    A2C: NumpyA2C,
    SAC: NumpySAC,
    TD3: NumpyTD3,
    DDPG: NumpyDDPG,
    DQN: NumpyDQN,
}
