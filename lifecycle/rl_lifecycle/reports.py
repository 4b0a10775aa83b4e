"""The report of a decision: the verdict with all that it was made from, written once beside the evaluation."""

from typing import Literal

from rl_lifecycle.gates import Gate, Verdict
from rl_lifecycle.records import Record


class Report(Record):
    """What the evaluator writes when a decision is final; promotion rests on it, by digest."""

    schema_version: Literal[1] = 1
    experiment: str
    run: str
    spec_sha256: str
    gate: Gate
    verdict: Verdict
    first_seed: int
    candidate_sha256: str | None
    candidate_digest: str | None
    champion_sha256: str | None
    champion_digest: str | None
