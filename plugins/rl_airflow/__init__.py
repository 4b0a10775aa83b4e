"""Nightshift's Airflow code: operators, triggers, forms, links and the functions that build DAGs.

Import it as `rl_airflow.…`: Airflow adds `plugins/` to sys.path. `plugins/.airflowignore` keeps
Airflow's plugin loader out of this package. The loader would import each file by itself and put it
into `sys.modules` under its bare stem.
"""
