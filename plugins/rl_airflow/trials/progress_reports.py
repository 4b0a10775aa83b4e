"""Reports on a trial: a line of progress, the trial's end, and the last lines of its log."""

import json
from collections.abc import Sequence

from rl_airflow.run.trial_ends import TrialEnd
from rl_lifecycle.storage.layout import LEARNER_SEAT, TrialId, curve_key, log_prefix
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.trials.evidence import Evidence
from rl_lifecycle.trials.gangs import GangReport
from rl_lifecycle.trials.heartbeats import Heartbeat
from rl_lifecycle.trials.seats import find_fatal
from rl_lifecycle.trials.states import Finding

#: How much of a machine's log is shown after a failure.
TAIL_BYTES, TAIL_LINES = 16_384, 40
#: The values of SB3's log that are shown while a trial trains.
CURVE = (
    "rollout/ep_rew_mean",
    "rollout/ep_len_mean",
    "train/loss",
    "train/approx_kl",
    "train/entropy_loss",
    "train/explained_variance",
    "train/actor_loss",
    "train/critic_loss",
)


def end_of_trial(trial: TrialId, evidence: Evidence, finding: Finding) -> TrialEnd:
    """Sum up time and cost of a trial over all its machines."""
    outcomes = [
        attempt.outcome for seat in evidence.seats for attempt in evidence.at_seat(seat).attempts
    ]
    beat = evidence.heartbeat
    return TrialEnd(
        trial=trial.trial,
        state=finding.state,
        reason=finding.reason,
        attempts=len(outcomes),
        steps=beat.step if beat is not None else evidence.committed_step,
        seconds=round(sum(outcome.seconds or 0.0 for outcome in outcomes), 1),
        usd=round(sum(outcome.usd or 0.0 for outcome in outcomes), 6),
        saved_usd=round(sum(outcome.saved_usd or 0.0 for outcome in outcomes), 6),
        gang=describe_gang(beat.gang) if beat is not None and beat.gang is not None else "",
    )


def describe_progress(trial: str, beat: Heartbeat, *, usd: float) -> str:
    """Return a line of progress for the task's log.

    :param usd: what the trial's present machines have cost so far, US dollars.
    """
    share = min(1.0, beat.step / beat.total_timesteps) if beat.total_timesteps else 0.0
    parts = [f"{trial}: {beat.state} {beat.step:,}/{beat.total_timesteps:,} ({share:.0%})"]
    if beat.steps_per_s > 0:
        left = max(0, beat.total_timesteps - beat.step) / beat.steps_per_s
        parts.append(f"{beat.steps_per_s:,.0f} steps/s" + (f", {left:.0f} s to go" if left else ""))
    if beat.episode_return_mean is not None:
        parts.append(f"return {beat.episode_return_mean:.1f}")
    if beat.gang is not None:
        parts.append(describe_gang(beat.gang))
    parts.append(f"USD {usd:.4f}")
    if beat.rebalance_at is not None:
        parts.append(f"AWS recommends leaving the machine since {beat.rebalance_at:%H:%M:%S} UTC")
    return " · ".join(parts) + (f" · {beat.message}" if beat.message else "")


def describe_gang(gang: GangReport) -> str:
    """Name the machines of a trial that collect, and how long the learner waited for them.

    >>> members = ({"seat": 1, "processes": 2, "shards": 3, "waited_s": 4.2},)
    >>> describe_gang(GangReport(generation=3, members=members, joined=3, lost=1))
    'gang 3: machine 1 collects 3 shards (4 s waited); 3 joined, 1 lost'
    """
    members = [
        f"machine {one.seat} collects {one.shards} shard{'' if one.shards == 1 else 's'}"
        + (f" ({one.waited_s:.0f} s waited)" if one.waited_s >= 0.5 else "")
        for one in gang.members
    ]
    who = ", ".join(members) or "the learner collects alone"
    text = f"gang {gang.generation}: {who}"
    text += f"; {gang.joined} joined, {gang.lost} lost" if gang.joined or gang.lost else ""
    return text


def read_log_tail(store: ObjectStore, trial: TrialId, evidence: Evidence) -> list[str]:
    """Read the last lines of the newest log of the machine that failed, or else of the learner.

    :return: empty if no such machine logged anything.
    """
    fatal = find_fatal(evidence)
    failed = evidence.at_seat(fatal[0] if fatal else LEARNER_SEAT)
    place = trial.at_seat(failed.seat)
    for attempt in reversed(failed.attempts):
        keys = [item for item in store.list(log_prefix(place, attempt.attempt)) if item.n_bytes]
        if not keys:
            continue
        newest = max(keys, key=lambda item: (item.modified_at, item.key))
        found = store.find(newest.key)
        if found is not None:
            text = found.data[-TAIL_BYTES:].decode(errors="replace")
            return [readable_line(line) for line in text.splitlines()[-TAIL_LINES:]]
    return []


def read_curve_end(store: ObjectStore, trial: TrialId, steps: Sequence[int]) -> str:
    """Read the last point of a chunk of a trial's learning curve; empty if there is none.

    :param steps: the steps at which the chunk may have been written. The first that exists is
        read.
    """
    found = next(
        (chunk for step in steps if (chunk := store.find(curve_key(trial, step))) is not None), None
    )
    lines = found.data.decode(errors="replace").splitlines() if found is not None else []
    if not lines:
        return ""
    point = json.loads(lines[-1])
    values = [
        f"{name} {point[name]:.4g}" for name in CURVE if isinstance(point.get(name), int | float)
    ]
    return f"curve at step {int(point.get('step', 0)):,}: {', '.join(values)}" if values else ""


def readable_line(line: str) -> str:
    """Return the message of a line of JSON, and any other line unchanged."""
    try:
        record = json.loads(line)
    except ValueError:
        return line
    if isinstance(record, dict) and isinstance(record.get("message"), str):
        return str(record["message"])
    return line
