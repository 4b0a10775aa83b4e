"""Request an attempt's machine from EC2, or adopt its existing one, and store the result."""

import logging
from collections.abc import Callable
from datetime import datetime

from rl_airflow.infrastructure.aws_errors import client_error
from rl_airflow.machines.instances import Granted, Machines
from rl_airflow.machines.launch_checks import LaunchChecks
from rl_airflow.trials.attempt_files import AttemptFiles, StoredAttempt
from rl_airflow.trials.task_state import MachineMemory
from rl_lifecycle.aws_errors import ENDED_MACHINE, ErrorKind, error_code, kind_of
from rl_lifecycle.machines.launch_requests import (
    TOKEN_HOLDS,
    WAITABLE,
    explain_refusals,
    market_of,
)
from rl_lifecycle.machines.machine_attempts import Attempt, AttemptEnd, Refusal
from rl_lifecycle.trials.evidence import Machine

#: With these kinds of error EC2 has looked at the request and refused it, so an earlier call with
#: the same token made no machine. Every other answer proves nothing, also an unknown one.
PROVES_NO_MACHINE = frozenset({ErrorKind.CAPACITY, ErrorKind.QUOTA, ErrorKind.BAD_REQUEST})


class MachineRequester:
    """Requests the machines of one seat of a trial.

    :param zones: subnet id → zone.
    :param now: the clock; returns aware UTC datetimes.
    :param memory: the machine that an earlier try of the task received.
    """

    def __init__(
        self,
        attempts: AttemptFiles,
        machines: Machines,
        checks: LaunchChecks,
        memory: MachineMemory,
        *,
        zones: dict[str, str],
        now: Callable[[], datetime],
        log: logging.Logger,
    ) -> None:
        self.attempts, self.machines, self.checks, self.memory = attempts, machines, checks, memory
        self.zones, self.now, self.log, self.trial = zones, now, log, attempts.trial

    def ask(
        self, stored: StoredAttempt, seen: Machine | None = None, *, just_written: bool = False
    ) -> None:
        """Adopt the attempt's machine, or request it. This starts billing.

        :param seen: the machine, if it is known already. Then no machine is requested.
        :param just_written: whether this worker has just written the attempt, so that its machine
            was not requested before.
        """
        attempt = stored.attempt
        found = (
            seen
            or self.machines.find(self.trial, attempt.attempt)
            or self._find_remembered(attempt)
        )
        if found is not None:
            self.log.info(
                "%s: adopting %s (%s)", self.trial.seat_name, found.instance_id, found.state
            )
            granted = Granted(
                found.instance_id,
                found.instance_type,
                found.zone,
                "spot" if found.market == "spot" else "on-demand",
                (),
            )
        else:
            granted = self._request(attempt, just_written=just_written)
            if granted.instance_id is not None:
                self.memory.keep(attempt.token, granted.instance_id)
        if not self._record_answer(stored, granted, self.now()) and granted.instance_id is not None:
            self._end_if_closed(attempt, granted.instance_id)

    def _find_remembered(self, attempt: Attempt) -> Machine | None:
        known = self.memory.find(attempt.token)
        return self.machines.describe([known]).get(known) if known is not None else None

    def _request(self, attempt: Attempt, *, just_written: bool) -> Granted:
        """Request the machine. An error of the request itself becomes a stored refusal.

        The quotas are checked only for an attempt that this worker has just written. An older
        attempt may already have a machine that EC2 does not show yet, and that machine may fill the
        quota. For an older attempt the client token decides.
        """
        if just_written and (full := self.checks.find_full(attempt, self.zones)):
            return Granted(None, None, None, market_of(attempt), full)
        try:
            return self.machines.request(attempt)
        except client_error() as error:
            code = error_code(error)
            if not code:
                raise  # no answer from EC2: the next try repeats the request with the same token
            message = error.response.get("Error", {}).get("Message", str(error))
            refusal = Refusal(
                instance_type="*", zone="*", market=market_of(attempt), code=code, message=message
            )
            return Granted(None, None, None, refusal.market, (refusal,))

    def _record_answer(self, stored: StoredAttempt, granted: Granted, now: datetime) -> bool:
        instance_id = granted.instance_id
        if instance_id is not None:
            self.log.info(
                "%s: %s is %s, %s, in %s",
                self.trial.seat_name,
                granted.instance_id,
                granted.instance_type,
                granted.market,
                granted.zone,
            )
            return self.attempts.update(
                stored,
                lambda outcome: outcome.launched(
                    instance_id=instance_id,
                    instance_type=granted.instance_type,
                    market=granted.market,
                    zone=granted.zone,
                    at=now,
                ),
            )
        codes = [refusal.code for refusal in granted.refusals]
        if ENDED_MACHINE in codes:
            return self._record_ended(stored, granted, now)
        waitable = any(kind_of(code) in WAITABLE for code in codes) or not codes
        reason = explain_refusals(codes) or _name_refusals(granted)
        self.log.warning("%s: no machine: %s", self.trial.seat_name, reason)
        return self.attempts.update(
            stored,
            lambda outcome: outcome.refused(
                AttemptEnd.NO_CAPACITY if waitable else AttemptEnd.REFUSED,
                reason,
                granted.refusals,
                market=granted.market,
                at=now,
            ),
        )

    def _record_ended(self, stored: StoredAttempt, granted: Granted, now: datetime) -> bool:
        """Record that an earlier request got a machine, which has ended and is no longer shown.

        Nothing says when it ended, so its cost counts from the time when the attempt was written,
        at the highest price of its pools.
        """
        attempt = stored.attempt
        seconds = max(0.0, (now - attempt.created_at).total_seconds())
        reason = "EC2 gave this attempt a machine, which has ended before its id was recorded"
        self.log.warning("%s: %s", self.trial.seat_name, reason)
        return self.attempts.update(
            stored,
            lambda outcome: outcome.refused(
                AttemptEnd.MACHINE_LOST,
                reason,
                granted.refusals,
                market=granted.market,
                at=now,
                seconds=seconds,
                usd=seconds / 3600 * attempt.reserved_usd_per_hour,
            ),
        )

    def _end_if_closed(self, attempt: Attempt, instance_id: str) -> None:
        """Terminate a new machine if another process closed its attempt during the request."""
        there = self.attempts.read()
        if (
            len(there) < attempt.attempt
            or there[attempt.attempt - 1].attempt.outcome.end is not None
        ):
            self.machines.terminate([instance_id])

    def is_unanswered(self, attempt: Attempt) -> bool:
        """Whether an attempt may have a machine that is not known yet: EC2 shows a new machine only
        after a while.
        """
        return (
            attempt.outcome.end is None
            and attempt.outcome.instance_id is None
            and self.now() - attempt.created_at <= TOKEN_HOLDS
            and self.machines.find(self.trial, attempt.attempt) is None
        )

    def end_unanswered(self, stored: StoredAttempt) -> bool:
        """Repeat the request with the attempt's token, and terminate the machine that EC2 returns.

        If a worker died during its request, EC2 returns the machine of that request. If that
        request arrives later, EC2 returns the same machine to it. If there was no request, EC2
        makes a machine, which is terminated at once. Its cost counts from the time when the attempt
        was written, because its launch time is not known.

        :return: whether there was a machine, so that the attempt must be read again.
        """
        try:
            granted = self.machines.request(stored.attempt)
        except client_error() as error:
            code = error_code(error)
            if code == ENDED_MACHINE or kind_of(code) in PROVES_NO_MACHINE:
                return False  # there is no machine, or it has ended
            raise
        if granted.instance_id is None:
            return False
        self.machines.terminate([granted.instance_id])
        self._record_answer(stored, granted, stored.attempt.created_at)
        return True


def _name_refusals(granted: Granted) -> str:
    """List the pools that refused, grouped by error code."""
    if not granted.refusals:
        return "EC2 gave no machine and no reason"
    said: dict[str, list[str]] = {}
    for refusal in granted.refusals:
        said.setdefault(refusal.code, []).append(
            refusal.message
            if refusal.instance_type == "*"
            else f"{refusal.instance_type} in {refusal.zone}"
        )
    return "; ".join(f"{code}: {', '.join(pools)}" for code, pools in said.items())
