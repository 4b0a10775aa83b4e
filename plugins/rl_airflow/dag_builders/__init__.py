"""Functions that build the DAGs. The files in dags/ only call them."""
