"""Nightshift's infrastructure: five CloudFormation stacks, the artifacts that machines and
functions run, and their care.

Works from a laptop and inside an Airflow task alike: sessions and clients are arguments, every step
can be repeated.
"""
