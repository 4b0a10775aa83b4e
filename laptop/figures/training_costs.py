"""Tables of speed, cost and load, each from a record of the benchmark of the same name."""

from typing import Any

from laptop.figures.records import counted, loads

NOT_MEASURED = "not measured"
#: The calls that a poll of the triggerer makes.
POLL_CALLS = ("ec2:DescribeInstances", "s3:ListBucket", "s3:GetObject")
#: The cells of a row of trainer_costs, from a case's facts.
COLUMNS = (
    "{segment}",
    "{checkpoint_share:.2%}",
    "{capture_ms:.1f} + {commit_ms:.1f}",
    "{export_ms:.0f}",
    "{resume_cpu_s:.1f} ({resume_s:.1f})",
    "{trainer_mib:.0f}",
    "{sb3_mib:.0f}",
    "{memory_ratio:.2f}",
)


def trainer_speed(record: dict[str, Any]) -> str:
    """A record as Markdown."""
    lines = [
        (
            "| | SB3, steps/s | trainer, steps/s | times faster (lowest–highest) | checkpoint, ms "
            "| "
            "export, ms |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for name, case in record["result"]["cases"].items():
        ratio = case["times_faster"]
        lines.append(
            f"| {name} | {case['sb3_steps_per_cpu_s']['median']:.0f} | "
            f"{case['trainer_steps_per_cpu_s']['median']:.0f} "
            f"| {ratio['median']:.1f} ({ratio['min']:.1f}–{ratio['max']:.1f}) | "
            f"{case['checkpoint_ms']:.0f} "
            f"| {case['export_ms']:.0f} |"
        )
    facts = record["machine"]
    return "\n".join(
        [
            *lines,
            "",
            f"{record['measured_at'][:10]}, {facts['processor']}, one thread, Python "
            f"{facts['python']}, "
            f"{record['result']['rounds']} turns each, interleaved; medians, per second of CPU "
            "time.",
        ]
    )


def trainer_against_sbx(record: dict[str, Any]) -> str:
    """A record as Markdown."""
    lines = [
        (
            "| | SB3, steps/s | SBX, steps/s | trainer, steps/s | trainer against SBX "
            "(lowest–highest) | SBX against SB3 |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for name, case in record["result"]["cases"].items():
        speeds = case["steps_per_cpu_s"]
        lines.append(
            f"| {name} | {speeds['sb3']['median']:.0f} | {speeds['sbx']['median']:.0f} | "
            f"{speeds['trainer']['median']:.0f} "
            f"| {_shown(case['trainer_against_sbx'])} | {_shown(case['sbx_against_sb3'])} |"
        )
    facts, versions = record["machine"], next(iter(record["result"]["cases"].values()))["versions"]
    return "\n".join(
        [
            *lines,
            "",
            f"{record['measured_at'][:10]}, {facts['processor']}, one core each, SBX "
            f"{versions['sbx-rl']} with "
            f"JAX {versions['jax']} after its warm-up, {counted(record, 'rounds')} turns each, "
            "interleaved; medians, per "
            "second of CPU time.",
        ]
    )


def trainer_costs(record: dict[str, Any]) -> str:
    """A record as Markdown."""
    lines = [
        "| buffer of 10⁶ transitions but for PPO | segment, steps | checkpoint, of its time | "
        "capture + commit, ms | export, ms "
        "| resume from S3, CPU s (on the clock) | memory, MiB | stock SB3, MiB | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, case in record["result"]["cases"].items():
        cells = [_cell(case, form) for form in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    facts = record["machine"]
    return "\n".join(
        [
            *lines,
            "",
            f"{record['measured_at'][:10]}, {facts['processor']}, {facts['cores']} shared cores, "
            "load "
            f"{loads(record)}, Python {facts['python']}, medians of {counted(record, 'rounds')}; "
            f"S3 is the local AWS's, which is no claim about AWS.",
        ]
    )


def steps_per_dollar(record: dict[str, Any]) -> str:
    """A record as Markdown: millions of steps for a dollar on spot, stock SB3's in brackets."""
    result = record["result"]
    cases = next(list(facts["steps_per_spot_usd"]) for facts in result["types"].values())
    lines = [
        f"| | on demand, $/h | spot, $/h | {' | '.join(cases)} |",
        "|---|---|---|" + "---|" * len(cases),
    ]
    for kind, facts in sorted(
        result["types"].items(), key=lambda item: float(item[1]["on_demand_usd"])
    ):
        bought = facts["steps_per_spot_usd"]
        shown = [
            NOT_MEASURED
            if bought == NOT_MEASURED
            else f"{bought[case]['trainer'] / 1e6:.0f} ({bought[case]['sb3'] / 1e6:.0f})"
            for case in cases
        ]
        lines.append(
            f"| {kind} | {facts['on_demand_usd']:.4f} | {facts['spot_usd']:.4f} | "
            f"{' | '.join(shown)} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            "Millions of steps for a dollar on spot (stock SB3's in brackets): speeds of "
            f"{result['speeds']} on one "
            f"thread of {result['processor']}, prices approximate, of {result['prices_as_of']}.",
        ]
    )


def triggerer_load(record: dict[str, Any]) -> str:
    """A record as Markdown: a poll's CPU, calls and the memory."""
    lines = [
        (
            "| waiting trials | in | curves | polls | CPU of a poll, ms | of 100 trials, ms | "
            "DescribeInstances, LIST, GET | MiB |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in record["result"]:
        calls = ", ".join(f"{one['calls_per_poll'][name]:.1f}" for name in POLL_CALLS)
        lines.append(
            f"| {one['trials']:,} | {one['in']} | {'yes' if one['learning_curves'] else 'no'} | "
            f"{one['polls']} | "
            f"{one['cpu_ms_per_poll']:.0f} | {one['cpu_ms_per_poll_of_100']:.0f} | {calls} | "
            f"{one['memory_mib']} |"
        )
    machine = record["machine"]
    return "\n".join(
        [
            *lines,
            "",
            "CPU, calls and trials are those of one poll. "
            f"Measured on {record['measured_at'][:10]} at commit {machine['commit']} on "
            f"{machine['cores']} cores of "
            f"{machine['processor']}, load {machine['load'][0]}, on the local AWS.",
        ]
    )


def _shown(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.1f} ({ratio['min']:.1f}–{ratio['max']:.1f})"


def _cell(case: dict[str, float], form: str) -> str:
    """Fill one cell. If the record lacks the value, the cell is "not measured"."""
    try:
        return form.format(**case)
    except KeyError:
        return "not measured"
