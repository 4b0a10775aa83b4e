"""A team's Airflow as plain processes: the services of docker-compose.yaml on the local AWS."""
