"""The report of a decision as one HTML page."""

import base64
import html
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from rl_evaluator.pages.report_plots import plot_pairs, plot_share
from rl_lifecycle.evaluation.decision_reports import MEANINGS, Report, format_return
from rl_lifecycle.evaluation.pair_statistics import PairStatistics, PolicyStatistics
from rl_lifecycle.evaluation.paired_returns import PairedReturns
from rl_lifecycle.evaluation.requests import Shard
from rl_lifecycle.evaluation.verdicts import Look


class Film(NamedTuple):
    """The film of one episode as an animated WebP, or a note that says why there is none."""

    seed: int
    webp: bytes = b""
    note: str = ""


class JudgedRun(NamedTuple):
    """What the page says of the run: who was judged, against whom, and when the run began."""

    began_at: datetime
    candidate: str
    champion: str


def render_report(
    report: Report,
    run: JudgedRun,
    candidate: Shard | None,
    champion: Shard | None,
    films: Sequence[Film] = (),
) -> str:
    """Render a decision as one HTML file.

    The page needs no script and loads nothing. It can be read on a phone and without colour.

    :param run: the run of the decision.
    :param candidate: the episodes that the verdict saw.
    :param champion: None for a first champion.
    :param films: films of the candidate's worst episodes, to embed in the page.
    """
    sections = [
        _headline(report, run),
        _looks(report.verdict.looks),
        _comparison(report.statistics),
    ]
    if report.statistics is not None and candidate is not None:
        sections += [
            _plots(report, report.statistics, candidate, champion),
            _worst(report.statistics),
            _films(report.statistics, films),
        ]
    sections.append(_declared(report))
    title = html.escape(f"{report.verdict.decision}: {report.experiment}, {report.run}")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, '
        f'initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


_STYLE = """
:root{color-scheme:light dark;
 --ink:#1b1b1b;--paper:#fff;--faint:#767676;--blue:#0072b2;--orange:#d55e00;--line:#d0d0d0}
@media(prefers-color-scheme:dark){:root{
 --ink:#eee;--paper:#161616;--faint:#a5a5a5;--blue:#56b4e9;--orange:#e69f00;--line:#444}}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:60rem;margin:auto;padding:1rem;overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:.5rem 0}
h2{font-size:1.1rem;margin:1.8rem 0 .4rem}
p.reason{font-size:1.1rem;border-left:.3rem solid var(--blue);padding-left:.8rem}
.table{overflow-x:auto;overflow-wrap:normal}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem .25rem 0;border-bottom:1px solid var(--line);
 text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;white-space:normal;min-width:4.5rem}
@media(max-width:34rem){
 body{font-size:15px}table{font-size:13px}
 th,td{padding-right:.35rem}td{white-space:normal}}
small,.faint{color:var(--faint)}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(17rem,1fr));gap:1rem}
figure{margin:0}
.films{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));
 gap:.5rem 1rem;align-items:start}
summary{cursor:pointer;padding:.3rem 0}
img{max-width:100%;height:auto;border:1px solid var(--line)}
svg{width:100%;height:auto;font-size:12px}
svg text{fill:var(--ink)}
svg .frame{fill:none;stroke:var(--line)}
svg .dot{fill:var(--blue);fill-opacity:.45}
svg .curve{fill:none;stroke:var(--blue);stroke-width:2}
svg .diagonal{stroke:var(--ink);stroke-width:1}
svg .crash{stroke:var(--orange);stroke-width:1.5;stroke-dasharray:6 4}
"""


def _headline(report: Report, run: JudgedRun) -> str:
    verdict = report.verdict
    n = verdict.looks[-1].n if verdict.looks else verdict.n_pairs
    facts = [
        ["candidate", run.candidate],
        ["champion", run.champion],
        ["the run began", f"{run.began_at:%Y-%m-%d %H:%M} UTC"],
    ]
    alone = report.champion_sha256 is None
    players = "of the candidate" if alone else "of each policy on the same seeds"
    lost = "".join(f"<p>⚠ {html.escape(one.describe())}</p>" for one in verdict.lost_episodes)
    return (
        f"<p class=faint>{html.escape(report.experiment)} · {html.escape(report.run)}</p>"
        f"<h1>{verdict.decision}: {MEANINGS[verdict.decision]}</h1><p "
        f"class=reason>{html.escape(verdict.reason)}</p>"
        f"{_table(['', ''], facts)}"
        f"<p>{n} episodes {players}; alpha spent {verdict.alpha_spent:.3g} "
        f"of {report.gate.alpha:g}; "
        f"{verdict.lost} lost.</p>{lost}"
    )


def _looks(looks: Sequence[Look]) -> str:
    """List the p-values of each look. A tick, not a colour, marks a value of at most alpha."""
    if not looks:
        return ""
    ceiling, names = any(look.p_ceiling is not None for look in looks), list(looks[0].scenarios)
    head = [
        "pairs",
        "alpha",
        "difference",
        "p better",
        "p no more crashes",
        *(["p few crashes"] if ceiling else []),
        *(f"p no more crashes, {name}" for name in names),
        "p worse",
        "p more crashes",
        "crashes",
    ]
    rows = [
        [
            str(look.n),
            f"{look.alpha:.3g}",
            f"{look.mean_difference:+.4g}",
            _p(look.p_better, look),
            _p(look.p_guard, look),
            *([_p(look.p_ceiling, look)] if ceiling else []),
            *(_p(look.scenarios[name].p_guard, look) for name in names),
            _p(look.p_worse, look),
            _p(look.p_guard_broken, look),
            f"{look.crashes_candidate} : {look.crashes_champion}",
        ]
        for look in looks
    ]
    return (
        "<h2>Look by look</h2>"
        + _table(head, rows)
        + (
            "<p><small>Each p is the probability to see such episodes although the candidate is "
            "not better, not worse, and so on. ✓: at most the alpha of that look, so it is shown. "
            "PROMOTE needs “better”, every “no more crashes” and, if there is one, “few crashes” "
            "at one look. “Worse” or “more crashes” gives KEEP.</small></p>"
        )
    )


def _comparison(found: PairStatistics | None) -> str:
    if found is None:
        return ""
    sides = [found.candidate, *([found.champion] if found.champion else [])]
    head = ["", "candidate", *(["champion"] if found.champion else [])]

    def row(name: str, values: Iterable[str]) -> list[str]:
        return [name, *values]

    rows = [
        row("mean return, as played", (format_return(side.mean) for side in sides)),
        row("standard deviation", (format_return(side.deviation) for side in sides)),
        row("mean of the worst tenth (CVaR10)", (format_return(side.cvar10) for side in sides)),
        row("lowest", (format_return(side.lowest) for side in sides)),
        row("crashes", (_crashes(side) for side in sides)),
        row("lost", (str(side.lost) for side in sides)),
    ]
    facts = [
        ["mean difference, clipped", f"{found.mean_difference:+.4g}"],
        [f"shown to be at least (alpha {found.bound_alpha:.3g})", f"{found.lower_bound:+.4g}"],
        [
            "BCa interval, 90 % (asymptotic: decides nothing)",
            f"{found.asymptotic_low:+.4g} … {found.asymptotic_high:+.4g}",
        ],
        ["ties", f"{found.ties:.1%}"],
        ["variance of the difference / sum of both", format_return(found.variance_ratio)],
        ["skew of the difference", f"{found.skew:+.2f}"],
        ["returns clipped to the range", f"{found.clipped_share:.2%}"],
    ]
    notes = "".join(f"<p>⚠ {html.escape(warning)}</p>" for warning in found.warnings)
    return (
        f"<h2>{' and '.join(head[1:]).capitalize()}</h2>"
        + _table(head, rows)
        + "<h2>The difference</h2>"
        + _table(["", ""], facts)
        + notes
    )


def _plots(report: Report, found: PairStatistics, candidate: Shard, champion: Shard | None) -> str:
    gate, n = report.gate, found.n
    if champion is None:
        mark = gate.return_range[0] if report.bar is None else report.bar
        alone = PairedReturns(
            candidate.returns[:n], candidate.returns[:n], gate.return_range
        ).candidate
        figures = [
            (
                plot_share(alone, "return", mark, gate.return_range),
                "Share of episodes at or below each return; the line is the bar.",
            )
        ]
    else:
        pairs = PairedReturns(candidate.returns[:n], champion.returns[:n], gate.return_range)
        widest = gate.return_range[1] - gate.return_range[0]
        figures = [
            (
                plot_pairs(pairs.candidate, pairs.champion, gate.crash_below, gate.return_range),
                "One dot a seed; above the diagonal the candidate did better. Dashed: the crash "
                "threshold.",
            ),
            (
                plot_share(
                    pairs.differences, "difference", 0.0, (-widest, widest), found.lower_bound
                ),
                "Share of pairs at or below each difference. Solid: no difference; dashed: the "
                "bound shown for the mean.",
            ),
        ]
    drawn = "".join(
        f"<figure>{svg}<figcaption><small>{text}</small></figcaption></figure>"
        for svg, text in figures
    )
    return f'<h2>Every episode</h2><div class="plots">{drawn}</div>'


def _worst(found: PairStatistics) -> str:
    rows = [
        [
            str(pair.seed),
            format_return(pair.candidate, "lost"),
            format_return(pair.champion, "–"),
            f"{pair.difference:+.4g}",
        ]
        for pair in found.worst
    ]
    return "<h2>The candidate's worst seeds</h2>" + _table(
        ["seed", "candidate", "champion", "difference"], rows
    )


def _films(found: PairStatistics, films: Sequence[Film]) -> str:
    """Embed the films of the worst episodes. Only the first film is unfolded at the start."""
    returns = {pair.seed: format_return(pair.candidate, "lost") for pair in found.worst}
    parts = []
    for number, film in enumerate(films):
        note = f"<p><small>{html.escape(film.note)}</small></p>" if film.note else ""
        data = base64.b64encode(film.webp).decode()
        picture = (
            f'<img alt="The candidate on seed {film.seed}" src="data:image/webp;base64,{data}">'
            if film.webp
            else ""
        )
        parts.append(
            f"<details{' open' if number == 0 else ''}><summary>seed {film.seed}: return "
            f"{returns.get(film.seed, '–')}</summary>"
            f"{picture}{note}</details>"
        )
    return (
        f'<h2>The worst episodes, filmed</h2><div class="films">{"".join(parts)}</div>'
        if parts
        else ""
    )


def _declared(report: Report) -> str:
    gate = report.gate
    facts = [
        ["return range", f"{gate.return_range[0]:g} … {gate.return_range[1]:g}"],
        ["crash below", f"{gate.crash_below:g}"],
        ["margin", f"{gate.margin:g}"],
        ["crash margin", f"{gate.crash_margin:g}"],
        [
            "most crashes at all",
            "not limited" if gate.max_crash_rate is None else f"{gate.max_crash_rate:.1%}",
        ],
        ["first seed", str(report.first_seed)],
        [
            "SHA-256 of the seeds",
            _short(report.statistics.seeds_sha256 if report.statistics else None),
        ],
        ["candidate's digest", _short(report.candidate_digest)],
        ["champion's digest", _short(report.champion_digest)],
        ["spec", _short(report.spec_sha256)],
    ]
    return "<h2>Declared before any return was seen</h2>" + _table(["", ""], facts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    names = (
        "<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in head) + "</tr>"
        if any(head)
        else ""
    )
    return f'<div class="table"><table>{names}{body}</table></div>'


def _p(value: float | None, look: Look) -> str:
    return "–" if value is None else f"{value:.2g}{' ✓' if value <= look.alpha else ''}"


def _crashes(side: PolicyStatistics) -> str:
    return f"{side.crashes} / {side.n} ({side.crashes / side.n:.1%})"


def _short(digest: str | None) -> str:
    return "–" if not digest else digest[:16]
