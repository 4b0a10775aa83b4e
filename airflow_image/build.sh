#!/usr/bin/env bash
# Build nightshift-airflow:0.1.0 with the first engine that works here. BASE_IMAGE names another base, e.g. in your own registry.
set -euo pipefail
cd "$(dirname "$0")/.."
image=nightshift-airflow:0.1.0
commit=${NIGHTSHIFT_COMMIT:-$(git rev-parse HEAD 2>/dev/null || true)}
arguments=(--build-arg "NIGHTSHIFT_COMMIT=$commit" ${BASE_IMAGE:+--build-arg "BASE_IMAGE=$BASE_IMAGE"} --tag "$image" --file Dockerfile .)
if docker info >/dev/null 2>&1; then
  docker build "${arguments[@]}"
elif command -v podman >/dev/null; then
  podman build --format docker "${arguments[@]}"
elif command -v buildah >/dev/null; then
  # Chroot isolation and the host's network need no container runtime and no privilege beyond root in this machine.
  buildah bud --format docker --isolation chroot --network host "${arguments[@]}"
else
  echo "make image needs docker (with its daemon), podman or buildah: install one, e.g. apt-get install buildah" >&2
  exit 2
fi
