"""Experiment files, the frozen spec of a run, and the tables behind them."""
