"""The report of a decision, as a page and as a short text."""

import random
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from rl_lifecycle.evaluation.gate import Gate, decide, decide_first
from rl_lifecycle.evaluation.pair_statistics import describe_pairs
from rl_lifecycle.evaluation.reports import Report, render_report, summarise_report
from rl_lifecycle.evaluation.requests import EpisodeEnd, Shard

GATE = Gate(
    return_range=(-200, 320), crash_below=100, max_pairs=400, crash_margin=0.1, scenarios={}
)


class PageReader(HTMLParser):
    """Checks that each opened tag is closed, and collects what the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "line", "circle", "rect", "polyline"):
            self.open.append(tag)
        self.references += [
            value or "" for name, value in attrs if name in ("src", "href", "action", "xlink:href")
        ]

    def handle_endtag(self, tag: str) -> None:
        if self.open[-1:] == [tag]:
            self.open.pop()
        elif tag not in ("line", "circle", "rect", "polyline"):
            raise AssertionError(f"</{tag}> closes {self.open[-1:]}")

    def handle_data(self, data: str) -> None:
        self.text += data


def shard(returns: list[float | None]) -> Shard:
    """Build an evaluation of invented returns."""
    return Shard(
        env_id="E-v0",
        policy_sha256="a",
        first_seed=1000,
        returns=tuple(returns),
        lengths=tuple(1 for _ in returns),
        ends=tuple(EpisodeEnd.TERMINATED for _ in returns),
        steps=len(returns),
        seconds=1.0,
    )


def noisy(mean: float, n: int, seed: int) -> list[float | None]:
    """Build invented returns with a long left tail."""
    rng = random.Random(seed)
    return [rng.gauss(mean, 30) if rng.random() > 0.02 else rng.uniform(-250, 0) for _ in range(n)]


def report_on(
    candidate: Shard, champion: Shard | None, gate: Gate = GATE, bar: float | None = None
) -> Report:
    """Decide and build the report."""
    verdict = (
        decide_first(candidate.returns, bar, gate)
        if champion is None
        else decide(candidate.returns, champion.returns, gate)
    )
    return Report(
        experiment="lunar <b>lander</b>",
        run="night-1",
        spec_sha256="5" * 64,
        gate=gate,
        verdict=verdict,
        first_seed=1000,
        candidate_sha256="a" * 64,
        candidate_digest="c" * 64,
        champion_sha256=None,
        champion_digest=None,
        bar=bar,
        statistics=describe_pairs(candidate, champion, gate, verdict, bar),
    )


def read_page(page: str) -> PageReader:
    """Parse a page and check that it is complete."""
    reader = PageReader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_has_everything_a_person_needs() -> None:
    """The page has the decision with its reason and all evidence for it."""
    candidate, champion = shard(noisy(250, 400, 1)), shard(noisy(180, 400, 2))
    report = report_on(candidate, champion)
    reader = read_page(render_report(report, candidate, champion))
    assert report.verdict.reason in reader.text
    for words in (
        "alpha spent",
        "p better",
        "p guard",
        "shown to be at least",
        "BCa interval, 90 % (asymptotic",
        "crashes",
        "CVaR10",
        "worst seeds",
        "clipped to the range",
        "as played",
        "ties",
        "variance of the difference",
        "skew",
        "return range-200 … 320",
        "SHA-256 of the seeds",
    ):
        assert words in reader.text, words
    assert report.statistics is not None
    assert all(str(pair.seed) in reader.text for pair in report.statistics.worst)


def test_the_page_is_one_file_and_safe_to_open() -> None:
    """The page has no script, loads nothing, escapes names, and fits a phone's screen."""
    candidate, champion = shard(noisy(250, 400, 1)), shard(noisy(180, 400, 2))
    page = render_report(report_on(candidate, champion), candidate, champion)
    assert read_page(page).references == []
    assert "<script" not in page
    assert "url(" not in page
    assert "lunar <b>" not in page
    assert 'name="viewport"' in page
    plots = re.findall(r"<svg.*?</svg>", page)
    assert len(plots) == 2
    for plot in plots:
        tree = ET.fromstring(plot)
        assert tree.get("aria-label")
        assert not any(
            "nan" in value or "inf" in value
            for element in tree.iter()
            for value in element.attrib.values()
        )


def test_the_same_decision_gives_the_same_bytes() -> None:
    """Writing a page twice gives the same bytes."""
    candidate, champion = shard(noisy(250, 400, 1)), shard(noisy(180, 400, 2))
    assert render_report(report_on(candidate, champion), candidate, champion) == render_report(
        report_on(candidate, champion), candidate, champion
    )


@pytest.mark.parametrize(
    ("candidate", "champion"),
    [
        ([500.0] * 400, [500.0] * 400),
        ([None] * 400, [1.0] * 400),
        ([1.0] * 10, [2.0] * 10),
        ([5.0], [5.0]),
        ([], []),
    ],
    ids=["ties", "all lost", "too few", "one", "none"],
)
def test_a_page_is_written_for_any_evidence(
    candidate: list[float | None], champion: list[float | None]
) -> None:
    """Ties, lost episodes and no episodes also give a page."""
    ours, theirs = shard(candidate), shard(champion)
    report = report_on(ours, theirs)
    assert str(report.verdict.decision) in read_page(render_report(report, ours, theirs)).text
    assert summarise_report(report)
    assert Report.from_json(report.to_json()) == report


def test_a_first_champion_is_shown_against_the_bar() -> None:
    """The page of a first champion has one plot, one column and the bar."""
    candidate = shard(noisy(250, 400, 1))
    report = report_on(candidate, None, bar=150)
    page = render_report(report, candidate, None)
    assert "the first champion" in read_page(page).text
    assert page.count("<svg") == 1
    assert "<th>champion</th>" not in page.partition("worst seeds")[0]


def test_the_short_text_says_what_decided() -> None:
    """The short text for a log has the decision, the means and the crashes."""
    candidate, champion = shard(noisy(250, 400, 1)), shard(noisy(180, 400, 2))
    lines = summarise_report(report_on(candidate, champion)).splitlines()
    assert lines[0].startswith("PROMOTE: after")
    assert "shown to be at least +" in lines[1]
    assert lines[2].startswith("crashes (below 100) ")
