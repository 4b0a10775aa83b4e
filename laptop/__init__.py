"""The commands behind the Makefile: the demo night, Airflow's UI, the tests, the benchmarks.

Only this package, the benchmarks and the tests know the local AWS. The pipeline does not know it,
because it only gets an endpoint.
"""
