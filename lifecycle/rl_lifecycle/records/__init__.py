"""The form of everything that is stored, and the names that are safe in keys, tags and DAG ids."""
