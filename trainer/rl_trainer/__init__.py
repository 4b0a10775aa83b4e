"""The trainer: train one trial of a frozen spec, segment by segment.

A machine that disappears loses at most one segment. The trainer runs on a rented machine or on a
laptop. It exchanges data with the rest of the pipeline only through the keys that
:mod:`rl_lifecycle` defines. Importing the package, or printing its help, loads neither torch nor
boto3.
"""
