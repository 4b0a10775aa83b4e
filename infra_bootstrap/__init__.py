"""Nightshift's infrastructure: five CloudFormation stacks, and the artifacts that they deploy.

The package works from a laptop and inside an Airflow task. Sessions and clients are arguments, and
every step can be repeated.
"""
