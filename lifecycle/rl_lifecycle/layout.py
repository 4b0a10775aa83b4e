"""Where everything lies in the bucket: the only place that spells a key.

The class comes first because lifecycle rules, event filters and policies match literal prefixes, and because one flat
LIST must show every heartbeat. A key has no leading slash; a prefix ends with one.
"""

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

#: Which role alone may write a class. The bucket policy and the role policies are tested against this table.
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
    """One seed of one retraining. Each part is a slug (see :mod:`rl_lifecycle.names`)."""

    experiment: str
    run: str
    trial: str

    def __str__(self) -> str:
        return f"{self.experiment}/{self.run}/{self.trial}"


def artifact_key(sha256: str, file_name: str) -> str:
    """An immutable file, named by the SHA-256 of its bytes."""
    return f"{ARTIFACTS}{sha256}/{file_name}"


def spec_key(experiment: str, run: str) -> str:
    """The frozen spec of a run."""
    return f"{SPECS}{experiment}/{run}/spec.json"


def import_key(experiment: str, run: str) -> str:
    """What a run brought in from elsewhere, instead of training it."""
    return f"{SPECS}{experiment}/{run}/import.json"


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
    return f"{checkpoint_prefix(trial)}head.json"


def checkpoint_key(trial: TrialId, step: int, attempt: int, file_name: str) -> str:
    """One file of one checkpoint. Steps are zero-padded so that a LIST is in order."""
    return f"{checkpoint_prefix(trial)}{step:012d}/{attempt:04d}/{file_name}"


def buffer_key(trial: TrialId, sha256: str) -> str:
    """One append-only chunk of a replay buffer, named by its content."""
    return f"{BUFFERS}{trial}/{sha256}"


def policy_prefix(trial: TrialId) -> str:
    """All policies of a trial."""
    return f"{POLICIES}{trial}/"


def policy_key(trial: TrialId, step: int, suffix: str) -> str:
    """A policy to evaluate: `onnx`, `safetensors`, and last `json`, whose arrival says that it is complete."""
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


def evaluation_prefix(experiment: str, run: str, name: str) -> str:
    """One evaluation: a policy on a list of seeds."""
    return f"{EVALUATIONS}{experiment}/{run}/{name}/"


def shard_prefix(experiment: str, run: str, name: str) -> str:
    """The shards of an evaluation."""
    return f"{evaluation_prefix(experiment, run, name)}shards/"


def shard_key(experiment: str, run: str, name: str, shard: int) -> str:
    """One shard of an evaluation, written once."""
    return f"{shard_prefix(experiment, run, name)}{shard:04d}.json"


def report_key(experiment: str, run: str, name: str) -> str:
    """The decision that an evaluation led to, written once."""
    return f"{evaluation_prefix(experiment, run, name)}report.json"


def report_page_key(experiment: str, run: str, name: str) -> str:
    """The same decision for a person: one self-contained HTML file."""
    return f"{evaluation_prefix(experiment, run, name)}report.html"


def ledger_key(month: str, experiment: str, run: str) -> str:
    """What a run cost. :param month: `yyyy-mm` of the run's start, in UTC."""
    return f"{LEDGER}{month}/{experiment}/{run}.json"


def registry_prefix(experiment: str) -> str:
    """The registry of an experiment."""
    return f"{REGISTRY}{experiment}/"


def version_prefix(experiment: str, version: int) -> str:
    """One immutable version. Numbers start at 1."""
    return f"{registry_prefix(experiment)}versions/{version:06d}/"


def champion_key(experiment: str) -> str:
    """The pointer to the version in service."""
    return f"{registry_prefix(experiment)}champion.json"


def history_key(experiment: str, sequence: int) -> str:
    """One entry of the append-only history. Numbers start at 1."""
    return f"{registry_prefix(experiment)}history/{sequence:06d}.json"


def trial_of_key(key: str, prefix: str) -> TrialId:
    """Read the trial out of a key below a class prefix.

    >>> trial_of_key("policies/cartpole/r1/seed-0/000000040960.json", POLICIES)
    TrialId(experiment='cartpole', run='r1', trial='seed-0')
    """
    experiment, run, rest = key.removeprefix(prefix).split("/", 2)
    return TrialId(experiment, run, rest.split("/")[0].removesuffix(".json"))
