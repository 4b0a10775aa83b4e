# The image of a team's Airflow with Nightshift: from the hashed lock, without torch, with a user that is not root.
ARG BASE_IMAGE=python:3.12-slim-bookworm
FROM ${BASE_IMAGE}

# tini is the first process: it passes signals on, and collects processes of tasks that lost their parent.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 50000 --gid 0 --no-create-home --home-dir /opt/airflow airflow
COPY locks/uv.txt locks/airflow.txt /locks/
# An index of packages and certificates of your own are secrets of the build (airflow_image/build.sh), so no layer has them.
RUN --mount=type=secret,id=index --mount=type=secret,id=certificates \
    if [ -s /run/secrets/index ]; then PIP_INDEX_URL=$(cat /run/secrets/index) && export PIP_INDEX_URL UV_DEFAULT_INDEX="$PIP_INDEX_URL"; fi \
    && if [ -s /run/secrets/certificates ]; then export PIP_CERT=/run/secrets/certificates SSL_CERT_FILE=/run/secrets/certificates; fi \
    && pip install --no-cache-dir --no-deps --require-hashes -r /locks/uv.txt \
    && uv pip install --system --no-cache --no-deps --require-hashes --compile-bytecode -r /locks/airflow.txt

WORKDIR /opt/airflow/nightshift
COPY dags dags
COPY plugins plugins
COPY lifecycle lifecycle
COPY infra_bootstrap infra_bootstrap
COPY experiments experiments
COPY airflow_image airflow_image
# bootstrap_infrastructure builds the trainer's wheels and the Lambda from these folders. Airflow does not import them.
COPY trainer trainer
COPY evaluator evaluator
COPY locks locks
# The licences of these packages are symbolic links to these two files.
COPY LICENSE NOTICE ./
# The code stays root's, and Airflow's user reads it whatever umask the checkout had. Only root can compile it, so it is compiled here.
RUN python -m compileall -q . && chmod -R u=rwX,go=rX .

ENV AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/airflow/nightshift/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/airflow/nightshift/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    NIGHTSHIFT_CACHE=/opt/airflow/nightshift-cache \
    PYTHONPATH=/opt/airflow/nightshift:/opt/airflow/nightshift/lifecycle:/opt/airflow/nightshift/plugins \
    PYTHONUNBUFFERED=1 \
    PYTHONWARNINGS="ignore:GitWildMatchPattern:DeprecationWarning,ignore:Using `httpx` with `starlette.testclient`,ignore:Could not import graphviz:UserWarning"
# The image has no git, so this argument names the commit. Every spec and manifest records it.
ARG NIGHTSHIFT_COMMIT=""
ENV NIGHTSHIFT_COMMIT=${NIGHTSHIFT_COMMIT}
WORKDIR /opt/airflow
# Airflow's user, in group 0, adds files to its home. The sticky bit keeps it from putting a folder of its own in the place of the code.
RUN chmod 1775 . && install --directory --owner=airflow --group=0 logs nightshift-cache
USER airflow
# Takes an Airflow command (`scheduler`) or a program with its arguments (`bash -c "exec airflow scheduler"`, as Helm's chart does).
ENTRYPOINT ["tini", "--", "python", "-m", "airflow_image"]
CMD ["version"]
