"""Why a machine ended before its trainer could report, as its console says.

A machine that has no tags, no Python or no way to the bucket writes nothing into the bucket. Its
start script then says one line on the console, which EC2 keeps for an hour after the end.
"""

import re
from typing import NamedTuple

from rl_lifecycle.machines.machine_attempts import AttemptEnd
from rl_lifecycle.trials.evidence import Evidence
from rl_lifecycle.trials.states import Finding, TrialState

#: EC2's reason code of a machine that shut itself down, as the start script does at its end.
#: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
SHUT_ITSELF_DOWN = "Client.InstanceInitiatedShutdown"
#: The line of `infra_bootstrap/templates/user_data.sh`. The console may add a time before it.
SAID = re.compile(r"nightshift: cannot start \(([a-z_]+)\): ([^\r\n]+)")
NO_PYTHON, NO_TAGS, NO_ROUTE = "no_python", "no_tags", "no_route"
#: The metadata service, or S3, answered with a failure. Both do so at times.
PASSING = ("no_metadata", "store")
#: What to do, by the fault.
FIXES = {
    NO_PYTHON: "choose an image that has Python with torch and boto3: docs/machine-images.md",
    NO_TAGS: "the launch template must show the tags in the metadata: run `drift`, then `deploy`",
    NO_ROUTE: "the subnets need the gateway endpoint of S3 in their routes: run `drift`, then "
    "`deploy`",
}
LONGEST_MESSAGE = 600


class BootFault(NamedTuple):
    """What a machine said of its failed start.

    :param kind: one word, such as `no_python`.
    """

    kind: str
    message: str


def find_boot_fault(console: str) -> BootFault | None:
    """Find the last line about a failed start in a machine's console.

    >>> find_boot_fault("[ 9.1] cloud-init: nightshift: cannot start (no_tags): 404\\r\\n")
    BootFault(kind='no_tags', message='404')
    """
    found = SAID.findall(console)
    if not found:
        return None
    kind, message = found[-1]
    readable = "".join(letter for letter in message if letter.isprintable())
    return BootFault(kind, readable[:LONGEST_MESSAGE].strip())


def ended_in_silence(evidence: Evidence) -> bool:
    """Whether the newest machine shut itself down before it reported anything."""
    machine = evidence.machine
    return (
        evidence.beat is None
        and machine is not None
        and not machine.state.alive
        and machine.reason_code == SHUT_ITSELF_DOWN
    )


def explain(finding: Finding, fault: BootFault, evidence: Evidence) -> Finding:
    """Replace the finding about a machine that ended in silence by what its console says.

    A fault that the next machine would have, too, fails the trial. So no second machine is rented.
    """
    machine = evidence.machine.instance_id if evidence.machine else "the machine"
    reason = f"{machine} could not start ({fault.kind}): {fault.message}"
    if not _repeats(fault, evidence):
        return finding.with_reason(reason)
    fix = FIXES.get(fault.kind)
    return Finding(
        state=TrialState.FAILED,
        cause=AttemptEnd.CODE_FAILED,
        reason=f"{reason}; {fix}" if fix else reason,
    )


def _repeats(fault: BootFault, evidence: Evidence) -> bool:
    """Whether another machine would fail in the same way.

    All machines of a run have one image, one template and one network. An earlier machine that
    reported a step shows that the network has a way to the bucket.
    """
    if fault.kind in PASSING:
        return False
    reached = any(attempt.outcome.reached_step is not None for attempt in evidence.attempts)
    return not (fault.kind == NO_ROUTE and reached)
