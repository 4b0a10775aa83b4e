"""Explain, from its console, a machine that ended before it could report."""

import logging

from rl_airflow.errors import first_line
from rl_airflow.infrastructure.aws_errors import aws_errors
from rl_airflow.machines.instances import Machines
from rl_lifecycle.trials.boot_faults import ended_in_silence, explain, find_boot_fault
from rl_lifecycle.trials.evidence import Evidence
from rl_lifecycle.trials.states import Finding


def explain_silence(
    machines: Machines, finding: Finding, evidence: Evidence, log: logging.Logger
) -> Finding:
    """Read why the newest machine ended in silence. Any other finding stays as it is.

    Without the permission `ec2:GetConsoleOutput` the finding stays as it is, too.
    """
    machine = evidence.machine
    if machine is None or not ended_in_silence(evidence):
        return finding
    try:
        consoles = machines.read_console(machine.instance_id)
        fault = next(filter(None, map(find_boot_fault, consoles)), None)
    except aws_errors() as error:
        log.info("the console of %s was not read (%s)", machine.instance_id, first_line(error))
        return finding
    return explain(finding, fault, evidence) if fault else finding
