#!/usr/bin/env bash
# Build nightshift-airflow:0.1.0 with the first engine that works here. BASE_IMAGE names another base, e.g. in your own registry.
# PIP_INDEX_URL is an index of packages of your own, and PIP_CERT a file of certificates: the image keeps neither.
set -euo pipefail
cd "$(dirname "$0")/.."
image=nightshift-airflow:0.1.0
commit=${NIGHTSHIFT_COMMIT:-$(git rev-parse HEAD 2>/dev/null || true)}
secrets=$(mktemp -d)
trap 'rm -rf "$secrets"' EXIT

arguments=(--build-arg "NIGHTSHIFT_COMMIT=$commit" --tag "$image" --file Dockerfile)
if [[ -n ${BASE_IMAGE:-} ]]; then
  arguments+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
fi
if [[ -n ${PIP_INDEX_URL:-} ]]; then
  # An address may hold a password, so it is a secret of the build and not an argument, which the image's history would show.
  printf '%s' "$PIP_INDEX_URL" > "$secrets/index"
  arguments+=(--secret "id=index,src=$secrets/index")
fi
if [[ -n ${PIP_CERT:-} ]]; then
  arguments+=(--secret "id=certificates,src=$PIP_CERT")
fi
for proxy in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
  if [[ -n ${!proxy:-} ]]; then
    arguments+=(--build-arg "$proxy") # engines know these arguments, and keep none of them in the image
  fi
done

# Chroot isolation and the host's network need no container runtime and no network of bridges, so they work within a container, too.
daemonless=(--format docker --isolation chroot --network host)
if docker info >/dev/null 2>&1; then
  docker build "${arguments[@]}" .
elif command -v buildah >/dev/null; then
  buildah bud "${daemonless[@]}" "${arguments[@]}" .
elif command -v podman >/dev/null; then
  podman build "${daemonless[@]}" "${arguments[@]}" .
else
  echo "make image needs docker (with its daemon), podman or buildah: install one, e.g. apt-get install buildah" >&2
  exit 2
fi
