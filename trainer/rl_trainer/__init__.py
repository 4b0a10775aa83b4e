"""The trainer: trains one trial of a frozen spec in segments, so that a machine that vanishes loses
at most one.

Runs on a rented machine or on a laptop, and meets the rest of the pipeline only through the keys
that
:mod:`rl_lifecycle` defines. Importing the package, or asking for its help, loads neither torch nor
    boto3.
"""
