"""What Airflow needs for many experiments: parsing their files, and nights that begin together."""
