"""Benchmarks: run with `make bench`; each writes a dated record to benchmarks/records/.

Everything here runs on one thread, set before NumPy is loaded: on a shared machine, BLAS threads
that wait for each other burn the very CPU time that is measured.
"""

from rl_trainer.checkpointing.numeric_class import pin_threads

pin_threads()
