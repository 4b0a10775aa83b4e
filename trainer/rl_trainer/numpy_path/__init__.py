"""Trains SB3's PPO, A2C, SAC, TD3, DDPG and DQN faster, for small MLP policies on a CPU.

Networks of this size spend most of a PyTorch update in dispatch and bookkeeping. Here NumPy
multiplies the layers, the gradients are written out by hand, and the optimizer works on one flat
array. The model's parameters are views of this array. So SB3 itself saves, loads and predicts, and
a trained model is an SB3 model.
"""
