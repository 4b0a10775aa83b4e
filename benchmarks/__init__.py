"""Benchmarks: `make bench` runs them, and each writes a dated record to benchmarks/records/.

Everything here runs on one thread, set before NumPy is loaded. On a shared machine, threads of BLAS
that wait for each other use the CPU time that is measured.
"""

from rl_trainer.checkpointing.numeric_class import pin_threads

pin_threads()
