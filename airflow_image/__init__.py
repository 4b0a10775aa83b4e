"""What the image of a team's Airflow runs: checks at the start, then Airflow.

Only the standard library and what Airflow itself installs are imported here, because the checks
must be able to say what is missing.
"""
