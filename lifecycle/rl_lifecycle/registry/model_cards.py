"""The model card of a version: what a person must know to use it, as Markdown.

It is written once beside the version's files. Every line comes from the spec, the record and the
report of the version. It holds no time and no text that must be kept up to date.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rl_lifecycle.evaluation.decision_reports import Report
from rl_lifecycle.evaluation.policies import PolicyMetadata, SpaceForm
from rl_lifecycle.experiment.spec import Spec


def render_model_card(
    spec: Spec,
    report: Report,
    metadata: PolicyMetadata,
    *,
    version: int,
    origin: str,
    numeric_class: Mapping[str, Any],
    rebuild: str,
) -> str:
    """Write the model card.

    :param origin: where the policy comes from, in a sentence.
    :param numeric_class: numeric class of the machine that trained it. It is empty if unknown.
    :param rebuild: how to train it again, in a sentence or a command.
    """
    experiment = spec.experiment
    sections = [
        (
            f"{experiment.name}, version {version}",
            [f"{metadata.algo} on {metadata.env_id}. {origin}"],
        ),
        ("What it takes and gives", _interface(metadata)),
        ("What it was trained with", _training(spec, metadata, numeric_class)),
        ("How it was judged", _evaluation(report)),
        ("Limits", _limits(spec, report)),
        ("How to rebuild it", [rebuild]),
        ("Whose it is", _names(spec, metadata)),
    ]
    head, *rest = sections
    parts = [f"# {head[0]}", "", *head[1]]
    for title, lines in rest:
        parts += ["", f"## {title}", "", *lines]
    return "\n".join(parts) + "\n"


def _interface(metadata: PolicyMetadata) -> list[str]:
    rows = [
        ("observation", describe_space(metadata.observation_space)),
        ("action", describe_space(metadata.action_space)),
        (
            "remembers",
            "yes: `state_in` and `state_out`, zeros at an episode's beginning"
            if metadata.recurrent
            else "no",
        ),
        ("distribution", metadata.distribution),
        (
            "wrappers",
            ", then ".join(f"`{one.name}` with `{dict(one.kwargs)}`" for one in metadata.wrappers)
            + " around the environment, the first innermost"
            if metadata.wrappers
            else "none: it plays the environment as it is",
        ),
    ]
    return [
        *_list(rows),
        "",
        (
            "`policy.onnx` holds normalisation, scaling and clipping; `parameters.safetensors` is "
            "for "
            "warm starts."
        ),
    ]


def _training(spec: Spec, metadata: PolicyMetadata, numeric_class: Mapping[str, Any]) -> list[str]:
    experiment = spec.experiment
    rows = [
        ("environment", f"`{experiment.env_id}` with `{dict(experiment.env_kwargs)}`"),
        (
            "data",
            f"only what the environment gave: {experiment.total_timesteps:,} steps at most, no "
            "recorded episodes",
        ),
        ("hyper-parameters", f"`{dict(spec.hyperparameters)}`"),
        ("began from", experiment.init_from),
        (
            "wheels",
            ", ".join(f"`{wheel.sha256[:12]}`" for wheel in spec.requirements) or "none of its own",
        ),
        (
            "libraries",
            ", ".join(f"{name} {version}" for name, version in sorted(metadata.versions.items()))
            or "not said",
        ),
        (
            "numeric class",
            ", ".join(f"{name} {value}" for name, value in sorted(numeric_class.items()))
            or "not known",
        ),
    ]
    return _list(rows)


def _evaluation(report: Report) -> list[str]:
    verdict, found, gate = report.verdict, report.statistics, report.gate
    rows = [
        ("decision", f"{verdict.decision}: {verdict.reason}"),
        ("return range", f"{gate.return_range[0]:g} to {gate.return_range[1]:g}"),
        ("alpha", f"{gate.alpha:g}, of which {verdict.alpha_spent:.3g} was spent"),
        ("first seed of the gate", f"{report.first_seed}, seeds that chose nothing"),
    ]
    if found is not None:
        against = "the bar" if found.champion is None else "the champion before it"
        rows += [
            ("episodes", f"{found.n}, the same seeds as {against}"),
            ("mean return", _number(found.candidate.mean)),
            ("worst tenth (CVaR10)", _number(found.candidate.cvar10)),
            ("lowest return", _number(found.candidate.lowest)),
            (
                f"crashes (below {gate.crash_below:g})",
                f"{found.candidate.crashes} of {found.candidate.n}",
            ),
            (
                f"better than {against} by",
                f"{found.mean_difference:+.4g}, shown to be at least {found.lower_bound:+.4g}",
            ),
        ]
        rows += [("worst seeds", ", ".join(str(pair.seed) for pair in found.worst))]
    return _list(rows)


def _limits(spec: Spec, report: Report) -> list[str]:
    experiment = spec.experiment
    scenarios = ", ".join(sorted(experiment.evaluation.scenarios))
    lines = [
        (
            "It was judged on this environment and these seeds alone; elsewhere nothing is known "
            "of "
            "it."
        ),
        "It was compared as it acts "
        f"{'without' if experiment.evaluation.deterministic else 'with'} chance "
        f"(`evaluation.deterministic: {str(experiment.evaluation.deterministic).lower()}`).",
        f"Crashes rarer than about 1 in {max(1, report.verdict.n_pairs)} could not be seen.",
    ]
    if report.champion_sha256 is None:
        lines.append(
            "It had no champion to beat: it was shown to lie above an absolute bar only."
            + f" The scenarios ({scenarios}) were not played." * bool(scenarios)
        )
    else:
        lines.append(
            f"Scenarios in which its crashes were guarded: {scenarios}."
            if scenarios
            else "No scenario was declared."
        )
    lines += [
        f"{warning[0].upper()}{warning[1:]}."
        for warning in (report.statistics.warnings if report.statistics else ())
    ]
    return [f"- {line}" for line in lines]


def _names(spec: Spec, metadata: PolicyMetadata) -> list[str]:
    return _list(
        [
            ("digest", f"`{metadata.digest}`"),
            ("run", f"`{spec.run}` ({spec.run_id})"),
            ("spec", f"`{spec.sha256}`"),
            ("commit", f"`{spec.commit}`"),
            ("image", f"`{spec.image_id}`"),
        ]
    )


def describe_space(space: SpaceForm) -> str:
    """Say a space in a few words.

    >>> describe_space(SpaceForm(kind="Discrete", n=2))
    'Discrete 2'
    """
    if space.kind == "Dict":
        return "Dict of " + ", ".join(
            f"{name}: {describe_space(part)}" for name, part in sorted(space.spaces.items())
        )
    size: Sequence[int] | int | None = space.n if space.n is not None else list(space.shape)
    return f"{space.kind} {list(size) if isinstance(size, tuple) else size}"


def _list(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [f"- **{name}**: {' '.join(value.split())}" for name, value in rows]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
