"""The contract between the parts of Nightshift: stored forms, stores, and decisions on them.

It depends only on the standard library and pydantic, so that every part can import it: on Airflow,
EC2, Lambda or a laptop. Clients, clocks and randomness are arguments.
"""
