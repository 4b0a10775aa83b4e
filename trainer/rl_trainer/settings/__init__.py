"""The settings of an experiment: algorithm, hyper-parameters and wrappers, read and checked."""
