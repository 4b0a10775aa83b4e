"""The console: pages in Airflow's UI that show what the bucket and EC2 hold. It only reads."""
