"""Nightshift in Airflow: operators that launch exactly once, triggers that watch, forms, links.

Reached as `rl_airflow.…` through sys.path. Airflow's plugin loader must not import it file by file
(it would put each file into `sys.modules` under its bare stem), hence `plugins/.airflowignore`.
"""
