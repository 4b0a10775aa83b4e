"""The contract between Nightshift's parts and its pure decisions: specs, states, S3 layout, gate,
champion.

Depends on the standard library and pydantic alone, so that every part, on Airflow, EC2, Lambda or a
laptop, can import it. Clients, clocks and randomness are arguments.
"""
