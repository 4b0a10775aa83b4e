"""SB3's PPO, A2C, SAC, TD3, DDPG and DQN on NumPy for small MLP policies on a CPU: faster, and
still SB3 models.

What is gained is overhead: networks of this size spend most of a PyTorch update in dispatch and
bookkeeping. Layers are multiplied in NumPy, gradients are written out by hand, the optimizer works
on one flat array that the model's parameters are views of. So saving, loading and prediction are
SB3's own.
"""
