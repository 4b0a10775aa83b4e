"""What the Makefile runs on a laptop: the demo night, Airflow's UI, the test suite, the benchmarks.

Beside the tests this is the only code that knows the local AWS. The pipeline does not: it is
pointed at an endpoint.
"""
