#!/usr/bin/env bash
# Write every lock from its .in file: universal (Linux, macOS, Python 3.11 to 3.13), hashed, no host names.
# torch has files of its own: two hashes of one version in one lock would let the installer take the wrong build.
set -euo pipefail
cd "$(dirname "$0")"
uv=${UV:-../.venv-uv/bin/uv}
unset UV_FIND_LINKS
compile() { "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header "$@"; }
keep() { # keep IN OUT PATTERN: the entries whose first line matches (or, with !PATTERN, does not)
  awk -v pattern="${3#!}" -v negate="$([[ $3 == !* ]] && echo 1 || echo 0)" \
    '/^[A-Za-z0-9]/ { on = ($0 ~ pattern); if (negate) on = !on } on' "$1" > "$2"
}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cuda='^(nvidia-|cuda-|triton==)'

compile dev.in -o "$work/dev.txt"
grep -E '^[A-Za-z0-9]' "$work/dev.txt" | sed 's/ \\$//' > "$work/constraints.txt"
keep "$work/dev.txt" torch-pypi.txt '^torch=='
keep "$work/dev.txt" torch-cuda.txt "$cuda"
keep "$work/dev.txt" dev.txt "!^torch==|${cuda}"
for name in trainer evaluator ami airflow sbx ray; do
  compile "$name.in" -c "$work/constraints.txt" -o "$work/$name.txt"
  keep "$work/$name.txt" "$name.txt" "!^torch==|${cuda}"
done
compile local-aws.in -o local-aws.txt
compile --no-deps servers.in -o servers.txt
compile uv.in -o uv.txt
compile checkov.in -o checkov.txt
compile --no-deps compose.in -o compose.txt
echo "now write which wheels the trainer's lock gives: .venv/bin/python -m laptop locked-wheels"
