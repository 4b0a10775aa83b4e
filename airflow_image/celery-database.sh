#!/bin/sh
# Make Celery's own database and user, at the first start of Postgres. Workers know only these.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set password="$POSTGRES_CELERY_PASSWORD" <<'SQL'
CREATE USER celery PASSWORD :'password';
CREATE DATABASE celery OWNER celery;
REVOKE CONNECT ON DATABASE airflow FROM PUBLIC;
SQL
