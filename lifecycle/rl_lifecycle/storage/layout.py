"""Where everything lies in the bucket: the only Python module that spells a key, and a test looks
for others.

The templates and `user_data.sh` cannot import it, so tests compare them with it. The class comes
first because lifecycle rules, event filters and policies match literal prefixes, and because one
flat LIST must show every heartbeat. A key has no leading slash; a prefix ends with one.
"""

import re
from typing import NamedTuple

ARTIFACTS = "artifacts/"
SPECS = "specs/"
ATTEMPTS = "attempts/"
HEARTBEATS = "heartbeats/"
CHECKPOINTS = "checkpoints/"
BUFFERS = "buffers/"
POLICIES = "policies/"
LOGS = "logs/"
METRICS = "metrics/"
EVALUATIONS = "evaluations/"
LEDGER = "ledger/"
REGISTRY = "registry/"

#: Names of files below their folders.
SPEC_FILE = "spec.json"
IMPORT_FILE = "import.json"
HEAD_FILE = "head.json"
MANIFEST_FILE = "manifest.json"
REPORT_FILE = "report.json"
POLICY_FILE = "policy.onnx"
PARAMETERS_FILE = "parameters.safetensors"
CARD_FILE = "model_card.md"
CLAIM_FILE = "claim.json"
CHAMPION_FILE = "champion.json"
FILES = (
    SPEC_FILE,
    IMPORT_FILE,
    HEAD_FILE,
    MANIFEST_FILE,
    REPORT_FILE,
    POLICY_FILE,
    PARAMETERS_FILE,
    CARD_FILE,
    CLAIM_FILE,
    CHAMPION_FILE,
)

#: What the key of an uploaded policy's bundle looks like, for a form that asks for it.
BUNDLE_PATTERN = rf"^{ARTIFACTS}[0-9a-f]{{64}}/{re.escape(IMPORT_FILE)}$"

#: Which role alone may write a class. The bucket policy and the role policies are tested against
#: this table.
WRITERS: dict[str, tuple[str, ...]] = {
    ARTIFACTS: ("deployer", "launcher"),
    SPECS: ("launcher",),
    ATTEMPTS: ("launcher",),
    HEARTBEATS: ("trainer",),
    CHECKPOINTS: ("trainer",),
    BUFFERS: ("trainer",),
    POLICIES: ("trainer",),
    LOGS: ("trainer",),
    METRICS: ("trainer",),
    EVALUATIONS: ("evaluator",),
    LEDGER: ("launcher",),
    REGISTRY: ("promoter",),
}


class TrialId(NamedTuple):
    """One seed of one retraining. Each part is a slug (see :mod:`rl_lifecycle.records.names`)."""

    experiment: str
    run: str
    trial: str

    def __str__(self) -> str:
        return f"{self.experiment}/{self.run}/{self.trial}"


def artifact_key(sha256: str, file_name: str) -> str:
    """An immutable file, named by the SHA-256 of its bytes."""
    return f"{ARTIFACTS}{sha256}/{file_name}"


def sha256_of_artifact(key: str) -> str:
    """The digest that names an artifact."""
    return key.split("/")[1]


def spec_prefix(experiment: str) -> str:
    """What is frozen of all runs of an experiment."""
    return f"{SPECS}{experiment}/"


def run_of_spec_key(key: str) -> str:
    """The run whose spec, or whose import, a key names."""
    return key.split("/")[2]


def is_spec_key(key: str) -> bool:
    """Tell a spec from the import that may lie beside it."""
    return key.endswith(f"/{SPEC_FILE}")


def spec_key(experiment: str, run: str) -> str:
    """The frozen spec of a run."""
    return f"{spec_prefix(experiment)}{run}/{SPEC_FILE}"


def import_key(experiment: str, run: str) -> str:
    """What a run brought in from elsewhere, instead of training it."""
    return f"{spec_prefix(experiment)}{run}/{IMPORT_FILE}"


def attempt_prefix(trial: TrialId) -> str:
    """All attempts of a trial."""
    return f"{ATTEMPTS}{trial}/"


def attempt_key(trial: TrialId, attempt: int) -> str:
    """One attempt: one machine for a trial. Numbers start at 1."""
    return f"{attempt_prefix(trial)}{attempt:04d}.json"


def heartbeat_prefix(experiment: str, run: str) -> str:
    """All heartbeats of a run."""
    return f"{HEARTBEATS}{experiment}/{run}/"


def heartbeat_key(trial: TrialId) -> str:
    """What the trial's machine last said of itself."""
    return f"{HEARTBEATS}{trial}.json"


def checkpoint_prefix(trial: TrialId) -> str:
    """All checkpoints of a trial, and its head."""
    return f"{CHECKPOINTS}{trial}/"


def head_key(trial: TrialId) -> str:
    """The commit and the fence: which checkpoint counts, and which attempt may write the next."""
    return f"{checkpoint_prefix(trial)}{HEAD_FILE}"


def is_head_key(key: str) -> bool:
    """Tell the head from the files of checkpoints."""
    return key.endswith(f"/{HEAD_FILE}")


def checkpoint_key(trial: TrialId, step: int, attempt: int, file_name: str) -> str:
    """One file of one checkpoint. Steps are zero-padded so that a LIST is in order."""
    return f"{checkpoint_prefix(trial)}{step:012d}/{attempt:04d}/{file_name}"


def step_and_attempt_of(key: str) -> tuple[int, int] | None:
    """Read off a checkpoint's file which checkpoint it belongs to; None for the head.

    >>> step_and_attempt_of("checkpoints/e/r/seed-0/000000002048/0003/state.json")
    (2048, 3)
    >>> step_and_attempt_of("checkpoints/e/r/seed-0/head.json")
    """
    parts = key.split("/")[-3:-1]
    if len(parts) < 2 or not all(part.isdigit() for part in parts):
        return None
    return int(parts[0]), int(parts[1])


def buffer_key(trial: TrialId, sha256: str) -> str:
    """One append-only chunk of a replay buffer, named by its content."""
    return f"{BUFFERS}{trial}/{sha256}"


def policy_prefix(trial: TrialId) -> str:
    """All policies of a trial."""
    return f"{POLICIES}{trial}/"


def policy_key(trial: TrialId, step: int, suffix: str) -> str:
    """A policy to evaluate: `onnx`, `safetensors`, and last `json`, whose arrival says that it is
    complete.
    """
    return f"{policy_prefix(trial)}{step:012d}.{suffix}"


def log_prefix(trial: TrialId, attempt: int) -> str:
    """What one machine logged."""
    return f"{LOGS}{trial}/{attempt:04d}/"


def trainer_log_key(trial: TrialId, attempt: int) -> str:
    """What the trainer itself logged on one machine: JSON lines, only ever appended to."""
    return f"{log_prefix(trial, attempt)}trainer.jsonl"


def metrics_prefix(trial: TrialId) -> str:
    """Learning curves: JSON lines and TensorBoard events."""
    return f"{METRICS}{trial}/"


def curve_key(trial: TrialId, step: int) -> str:
    """What SB3 recorded in the segment that ended at a step: JSON lines."""
    return f"{metrics_prefix(trial)}{step:012d}.jsonl"


def evaluations_prefix(experiment: str, run: str) -> str:
    """All evaluations of a run."""
    return f"{EVALUATIONS}{experiment}/{run}/"


def evaluation_prefix(experiment: str, run: str, name: str) -> str:
    """One evaluation: a policy on a list of seeds."""
    return f"{evaluations_prefix(experiment, run)}{name}/"


def shard_prefix(experiment: str, run: str, name: str) -> str:
    """The shards of an evaluation."""
    return f"{evaluation_prefix(experiment, run, name)}shards/"


def shard_key(experiment: str, run: str, name: str, shard: int) -> str:
    """One shard of an evaluation, written once."""
    return f"{shard_prefix(experiment, run, name)}{shard:04d}.json"


def report_key(experiment: str, run: str, name: str) -> str:
    """The decision that an evaluation led to, written once."""
    return f"{evaluation_prefix(experiment, run, name)}{REPORT_FILE}"


def report_page_key(experiment: str, run: str, name: str) -> str:
    """The same decision for a person: one self-contained HTML file."""
    return page_of_report(report_key(experiment, run, name))


def page_of_report(key: str) -> str:
    """The page beside a report. :param key: of the report."""
    return key.removesuffix(".json") + ".html"


def is_report_key(key: str) -> bool:
    """Tell a report from the shards and the page beside it."""
    return key.endswith(f"/{REPORT_FILE}")


def ledger_prefix(month: str) -> str:
    """What all runs cost that began in a month. :param month: `yyyy-mm`, in UTC."""
    return f"{LEDGER}{month}/"


def ledger_key(month: str, experiment: str, run: str) -> str:
    """What a run cost. :param month: `yyyy-mm` of the run's start, in UTC."""
    return f"{ledger_prefix(month)}{experiment}/{run}.json"


def registry_prefix(experiment: str) -> str:
    """The registry of an experiment."""
    return f"{REGISTRY}{experiment}/"


def versions_prefix(experiment: str) -> str:
    """All versions of an experiment."""
    return f"{registry_prefix(experiment)}versions/"


def version_prefix(experiment: str, version: int) -> str:
    """One immutable version. Numbers start at 1."""
    return f"{versions_prefix(experiment)}{version:06d}/"


def champion_key(experiment: str) -> str:
    """The pointer to the version in service."""
    return f"{registry_prefix(experiment)}{CHAMPION_FILE}"


def history_prefix(experiment: str) -> str:
    """The whole append-only history."""
    return f"{registry_prefix(experiment)}history/"


def history_key(experiment: str, sequence: int) -> str:
    """One entry of the append-only history. Numbers start at 1."""
    return f"{history_prefix(experiment)}{sequence:06d}.json"


def trial_of_key(key: str, prefix: str) -> TrialId:
    """Read the trial out of a key below a class prefix.

    >>> trial_of_key("policies/cartpole/r1/seed-0/000000040960.json", POLICIES)
    TrialId(experiment='cartpole', run='r1', trial='seed-0')
    """
    experiment, run, rest = key.removeprefix(prefix).split("/", 2)
    return TrialId(experiment, run, rest.split("/")[0].removesuffix(".json"))
