"""Functions that build the DAGs; the files in dags/ call them."""
