"""Which class with recorded updates trains in the place of which of SB3's."""

from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm

from rl_trainer.graphs.algorithms import GraphPPO
from rl_trainer.graphs.replayed import GraphDQN, GraphOffPolicy, GraphSAC

#: SB3's class → ours.
GRAPH_CLASSES: dict[type[BaseAlgorithm], type[GraphPPO | GraphOffPolicy]] = {
    PPO: GraphPPO,
    DQN: GraphDQN,
    SAC: GraphSAC,
}
