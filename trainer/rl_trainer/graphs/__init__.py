"""Updates of PPO, DQN and SAC recorded once as CUDA graphs and replayed for each minibatch, for who asks for it on a GPU.

Off unless `compute.gpu_updates: cuda_graphs` asks. Everything but :class:`~rl_trainer.graphs.captures.CudaGraphs` runs on a CPU,
too, and is tested there against stock SB3; on a GPU none of it was ever run by us.
"""
