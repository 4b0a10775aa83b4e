"""The keys of all objects in the bucket.

This is the only Python module that spells a key, and a test looks for others. The templates and
`user_data.sh` cannot import it, so tests compare them with it. A key begins with its class, because
lifecycle rules, event filters and policies match literal prefixes, and because one LIST must show
every heartbeat. A key has no leading slash. A prefix ends with a slash.
"""

import re
from typing import NamedTuple, Self

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
VERDICTS = "verdicts/"
LEDGER = "ledger/"
GANGS = "gangs/"
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

#: The pattern of the key of an uploaded policy's bundle, for the form that asks for this key.
BUNDLE_PATTERN = rf"^{ARTIFACTS}[0-9a-f]{{64}}/{re.escape(IMPORT_FILE)}$"

#: The roles that may write keys of each class. Tests compare the bucket policy and the role
#: policies with this table.
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
    GANGS: ("trainer",),
    # The function "evaluator" is the dispatcher: it signs each address to which a shard is written.
    EVALUATIONS: ("evaluator",),
    VERDICTS: ("judge",),
    LEDGER: ("launcher",),
    REGISTRY: ("promoter",),
}


#: The seat of the machine that learns. Machines with higher seats only collect.
LEARNER_SEAT = 0


class TrialId(NamedTuple):
    """The place of a trial, and the seat of one of its machines.

    Each part is a slug (see :mod:`rl_lifecycle.records.names`). A slug has no dot, so the name of a
    seat is not the name of another trial. The attempts, heartbeats and logs of a seat are its own.
    All other keys are those of the trial, whatever the seat.
    """

    experiment: str
    run: str
    trial: str
    seat: int = LEARNER_SEAT

    def __str__(self) -> str:
        return f"{self.experiment}/{self.run}/{self.seat_name}"

    @property
    def seat_name(self) -> str:
        """The trial's name; for a machine that only collects, with a dot and the seat.

        >>> TrialId("cartpole", "r1", "seed-0").seat_name
        'seed-0'
        >>> TrialId("cartpole", "r1", "seed-0", 2).seat_name
        'seed-0.2'
        """
        return self.trial if self.seat == LEARNER_SEAT else f"{self.trial}.{self.seat}"

    def at_seat(self, seat: int) -> Self:
        """The same trial at another seat."""
        return self._replace(seat=seat)

    @property
    def whole(self) -> Self:
        """The trial itself, which is the learner's seat."""
        return self.at_seat(LEARNER_SEAT)


def class_prefix(key_class: str, experiment: str, run: str = "") -> str:
    """The prefix of all keys of a class that belong to an experiment, or to one of its runs.

    :param key_class: for example :data:`LOGS`; for ledgers also the month.

    >>> class_prefix(LOGS, "cartpole"), class_prefix(LOGS, "cartpole", "r1")
    ('logs/cartpole/', 'logs/cartpole/r1/')
    """
    return f"{key_class}{experiment}/{run}/" if run else f"{key_class}{experiment}/"


def artifact_key(sha256: str, file_name: str) -> str:
    """The key of an immutable file, named by the SHA-256 of its bytes."""
    return f"{ARTIFACTS}{sha256}/{file_name}"


def sha256_of_artifact(key: str) -> str:
    """Read the SHA-256 from the key of an artifact."""
    return key.split("/")[1]


def spec_prefix(experiment: str) -> str:
    """The prefix of the specs of all runs of an experiment."""
    return f"{SPECS}{experiment}/"


def run_of_spec_key(key: str) -> str:
    """Read the run from the key of a spec or of an import."""
    return key.split("/")[2]


def experiment_of_spec_key(key: str) -> str:
    """Read the experiment from the key of a spec or of an import."""
    return key.split("/")[1]


def is_spec_key(key: str) -> bool:
    """Check whether a key below `specs/` is a spec and not an import."""
    return key.endswith(f"/{SPEC_FILE}")


def spec_key(experiment: str, run: str) -> str:
    """The key of the frozen spec of a run."""
    return f"{spec_prefix(experiment)}{run}/{SPEC_FILE}"


def import_key(experiment: str, run: str) -> str:
    """The key of the policy that a run imported instead of training one."""
    return f"{spec_prefix(experiment)}{run}/{IMPORT_FILE}"


def attempt_prefix(trial: TrialId) -> str:
    """The prefix of all attempts of a trial's seat."""
    return f"{ATTEMPTS}{trial}/"


def attempt_key(trial: TrialId, attempt: int) -> str:
    """The key of an attempt. Numbers start at 1."""
    return f"{attempt_prefix(trial)}{attempt:04d}.json"


def heartbeat_prefix(experiment: str, run: str) -> str:
    """The prefix of all heartbeats of a run."""
    return f"{HEARTBEATS}{experiment}/{run}/"


def heartbeat_key(trial: TrialId) -> str:
    """The key of the newest heartbeat of a trial's seat."""
    return f"{HEARTBEATS}{trial}.json"


def checkpoint_prefix(trial: TrialId) -> str:
    """The prefix of all checkpoints of a trial and of its head."""
    return f"{CHECKPOINTS}{trial.whole}/"


def head_key(trial: TrialId) -> str:
    """The key of a trial's head."""
    return f"{checkpoint_prefix(trial)}{HEAD_FILE}"


def is_head_key(key: str) -> bool:
    """Check whether a key below a checkpoint prefix is the head."""
    return key.endswith(f"/{HEAD_FILE}")


def checkpoint_key(trial: TrialId, step: int, attempt: int, file_name: str) -> str:
    """The key of a file of a checkpoint. Steps are zero-padded, so a LIST sorts them."""
    return f"{checkpoint_prefix(trial)}{step:012d}/{attempt:04d}/{file_name}"


def step_and_attempt_of(key: str) -> tuple[int, int] | None:
    """Read the step and the attempt from the key of a checkpoint's file.

    :return: None for the head.

    >>> step_and_attempt_of("checkpoints/e/r/seed-0/000000002048/0003/state.json")
    (2048, 3)
    >>> step_and_attempt_of("checkpoints/e/r/seed-0/head.json")
    """
    parts = key.split("/")[-3:-1]
    if len(parts) < 2 or not all(part.isdigit() for part in parts):
        return None
    return int(parts[0]), int(parts[1])


def buffer_key(trial: TrialId, sha256: str) -> str:
    """The key of a chunk of a replay buffer, named by its content. Chunks are never changed."""
    return f"{BUFFERS}{trial.whole}/{sha256}"


def policy_prefix(trial: TrialId) -> str:
    """The prefix of all policies of a trial."""
    return f"{POLICIES}{trial.whole}/"


def policy_key(trial: TrialId, step: int, suffix: str) -> str:
    """The key of a file of a policy.

    :param suffix: `onnx`, `safetensors` or `json`. The JSON is written last, so it says that the
        policy is complete.
    """
    return f"{policy_prefix(trial)}{step:012d}.{suffix}"


def log_prefix(trial: TrialId, attempt: int) -> str:
    """The prefix of the logs of one machine."""
    return f"{LOGS}{trial}/{attempt:04d}/"


def trainer_log_key(trial: TrialId, attempt: int) -> str:
    """The key of the trainer's log on one machine: JSON lines, which are only appended."""
    return f"{log_prefix(trial, attempt)}trainer.jsonl"


def metrics_prefix(trial: TrialId) -> str:
    """The prefix of a trial's metrics: JSON lines and TensorBoard events."""
    return f"{METRICS}{trial.whole}/"


def curve_key(trial: TrialId, step: int) -> str:
    """The key of what SB3 recorded in the segment that ended at a step: JSON lines."""
    return f"{metrics_prefix(trial)}{step:012d}.jsonl"


def gang_prefix(trial: TrialId) -> str:
    """The prefix of all generations of a trial's gang."""
    return f"{GANGS}{trial.whole}/"


def gang_key(trial: TrialId, attempt: int, generation: int) -> str:
    """The key of a generation of a trial's gang. Both numbers start at 1, and a LIST sorts them."""
    return f"{gang_prefix(trial)}{attempt:04d}-{generation:06d}.json"


def attempt_and_generation_of(key: str) -> tuple[int, int]:
    """Read the learner's attempt and the generation from the key of a generation.

    >>> attempt_and_generation_of("gangs/cartpole/r1/seed-0/0002-000013.json")
    (2, 13)
    """
    attempt, _, generation = key.rpartition("/")[2].removesuffix(".json").partition("-")
    return int(attempt), int(generation)


def evaluations_prefix(experiment: str, run: str) -> str:
    """The prefix of all evaluations of a run."""
    return f"{EVALUATIONS}{experiment}/{run}/"


def evaluation_prefix(experiment: str, run: str, name: str) -> str:
    """The prefix of one evaluation."""
    return f"{evaluations_prefix(experiment, run)}{name}/"


def shard_prefix(experiment: str, run: str, name: str) -> str:
    """The prefix of the shards of an evaluation."""
    return f"{evaluation_prefix(experiment, run, name)}shards/"


def shard_key(experiment: str, run: str, name: str, shard: int) -> str:
    """The key of one shard of an evaluation. It is written once."""
    return f"{shard_prefix(experiment, run, name)}{shard:04d}.json"


def verdicts_prefix(experiment: str, run: str) -> str:
    """The prefix of the reports of all decisions of a run."""
    return f"{VERDICTS}{experiment}/{run}/"


def report_key(experiment: str, run: str, name: str) -> str:
    """The key of the report of a decision. Only the judge writes it, and only once."""
    return f"{verdicts_prefix(experiment, run)}{name}.json"


def former_report_key(experiment: str, run: str, name: str) -> str:
    """The key where a report was written before reports had a class of their own."""
    return f"{evaluation_prefix(experiment, run, name)}{REPORT_FILE}"


def report_page_key(experiment: str, run: str, name: str) -> str:
    """The key of the HTML page of a report."""
    return page_of_report(report_key(experiment, run, name))


def page_of_report(key: str) -> str:
    """The key of the HTML page beside a report.

    :param key: the report's key.
    """
    return key.removesuffix(".json") + ".html"


def is_report_key(key: str) -> bool:
    """Check whether a key below the verdicts or the evaluations of a run is a report."""
    if key.startswith(VERDICTS):
        return key.endswith(".json")
    return key.endswith(f"/{REPORT_FILE}")


def is_report_of(key: str, experiment: str, run: str) -> bool:
    """Check whether a key is where the judge writes, or once wrote, reports of a run."""
    name = key.rpartition("/")[2].removesuffix(".json")
    former = key.removesuffix(f"/{REPORT_FILE}").rpartition("/")[2]
    return key in (report_key(experiment, run, name), former_report_key(experiment, run, former))


def run_and_name_of_report(key: str) -> tuple[str, str]:
    """Read the run and the name of the candidate's evaluation from the key of a report.

    >>> run_and_name_of_report("verdicts/cartpole/r1/gate-candidate.json")
    ('r1', 'gate-candidate')
    >>> run_and_name_of_report("evaluations/cartpole/r1/gate-candidate/report.json")
    ('r1', 'gate-candidate')
    """
    _, _, run, name, *_ = key.split("/")
    return run, name.removesuffix(".json")


def ledger_prefix(month: str) -> str:
    """The prefix of the ledgers of all runs that began in a month.

    :param month: `yyyy-mm`, in UTC.
    """
    return f"{LEDGER}{month}/"


def ledger_key(month: str, experiment: str, run: str) -> str:
    """The key of the ledger of a run.

    :param month: `yyyy-mm` of the run's start, in UTC.
    """
    return f"{ledger_prefix(month)}{experiment}/{run}.json"


def registry_prefix(experiment: str) -> str:
    """The prefix of an experiment's registry."""
    return f"{REGISTRY}{experiment}/"


def versions_prefix(experiment: str) -> str:
    """The prefix of all versions of an experiment."""
    return f"{registry_prefix(experiment)}versions/"


def version_prefix(experiment: str, version: int) -> str:
    """The prefix of one version. Numbers start at 1."""
    return f"{versions_prefix(experiment)}{version:06d}/"


def champion_key(experiment: str) -> str:
    """The key of the pointer to the version in service."""
    return f"{registry_prefix(experiment)}{CHAMPION_FILE}"


def history_prefix(experiment: str) -> str:
    """The prefix of the history of an experiment."""
    return f"{registry_prefix(experiment)}history/"


def history_key(experiment: str, sequence: int) -> str:
    """The key of an entry of the history. Numbers start at 1."""
    return f"{history_prefix(experiment)}{sequence:06d}.json"


def trial_of_key(key: str, prefix: str) -> TrialId:
    """Read the trial from a key.

    :param prefix: the class of the key, for example :data:`POLICIES`.

    >>> trial_of_key("policies/cartpole/r1/seed-0/000000040960.json", POLICIES)
    TrialId(experiment='cartpole', run='r1', trial='seed-0', seat=0)
    >>> trial_of_key("heartbeats/cartpole/r1/seed-0.2.json", HEARTBEATS)
    TrialId(experiment='cartpole', run='r1', trial='seed-0', seat=2)
    """
    experiment, run, rest = key.removeprefix(prefix).split("/", 2)
    trial, _, seat = rest.split("/")[0].removesuffix(".json").partition(".")
    return TrialId(experiment, run, trial, int(seat or LEARNER_SEAT))
