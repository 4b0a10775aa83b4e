"""The HTML page of a report."""

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from rl_evaluator.pages.report_html import JudgedRun, render_report
from rl_lifecycle.evaluation.decision_reports import Report, summarise_report
from rl_lifecycle.evaluation.lost_episodes import find_lost
from tests.lifecycle.evaluation.made_up_reports import noisy, report_on, shard

RUN = JudgedRun(
    datetime(2026, 11, 22, 2, tzinfo=UTC), "trial seed-1 at step 40,960", "version 3 <i>"
)


class PageReader(HTMLParser):
    """Checks that what was opened is closed, and collects what a page refers to."""

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


def read_page(page: str) -> PageReader:
    """Parse a page; it must be whole."""
    reader = PageReader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_tells_all_that_a_person_must_see() -> None:
    """Decision and its reason, looks, bounds, crashes, tail, worst seeds, clipping, ties, skew,
    range, seeds.
    """
    candidate, champion = shard(noisy(250, 400, 1)), shard(noisy(180, 400, 2))
    report = report_on(candidate, champion)
    reader = read_page(render_report(report, RUN, candidate, champion))
    assert report.verdict.reason in reader.text
    for words in (
        "alpha spent",
        "p better",
        "p no more crashes",
        "p more crashes",
        "candidatetrial seed-1 at step 40,960",
        "championversion 3 <i>",
        "the run began2026-11-22 02:00 UTC",
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


def test_the_page_and_the_summary_tell_whose_episodes_were_lost() -> None:
    """The seeds and the evaluator's reason are shown, and a reason cannot add to the page."""
    candidate = shard([None, *noisy(250, 399, 1)]).model_copy(
        update={"problems": ("seed 1000: <b>no</b> reward",)}
    )
    champion = shard(noisy(180, 400, 2))
    report = report_on(candidate, champion)
    lost = find_lost({"candidate": candidate, "champion": champion})
    report = report.model_copy(update={"verdict": report.verdict.with_lost(lost)})
    told = "candidate: 1 of 400 episodes lost, seeds 1000: seed 1000: <b>no</b> reward"
    assert told in read_page(render_report(report, RUN, candidate, champion)).text
    assert told in summarise_report(report)


def test_the_page_is_one_file_and_safe_to_open() -> None:
    """No script, nothing fetched, names escaped, a viewport for phones, plots that are well-formed
    and named.
    """
    candidate, champion = shard(noisy(250, 400, 1)), shard(noisy(180, 400, 2))
    page = render_report(report_on(candidate, champion), RUN, candidate, champion)
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
    """A page that is written twice is written once."""
    candidate, champion = shard(noisy(250, 400, 1)), shard(noisy(180, 400, 2))
    assert render_report(report_on(candidate, champion), RUN, candidate, champion) == render_report(
        report_on(candidate, champion), RUN, candidate, champion
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
def test_a_page_comes_of_anything(
    candidate: list[float | None], champion: list[float | None]
) -> None:
    """Ties, losses and nothing at all have a page too."""
    ours, theirs = shard(candidate), shard(champion)
    report = report_on(ours, theirs)
    assert str(report.verdict.decision) in read_page(render_report(report, RUN, ours, theirs)).text
    assert summarise_report(report)
    assert Report.from_json(report.to_json()) == report


def test_all_ties_are_shown_in_the_range_of_returns() -> None:
    """An axis of half a point around the only value says nothing."""
    ties = shard([500.0] * 400)
    report = report_on(ties, ties)
    page = render_report(report, RUN, ties, ties)
    low, high = report.gate.return_range
    pairs, differences = (
        re.findall(r"<text x=[^>]*>([^<]*)</text>", plot)
        for plot in re.findall(r"<svg.*?</svg>", page)
    )
    assert {f"{low:.4g}", f"{high:.4g}"} <= set(pairs)
    assert {f"{low - high:.4g}", "0", f"{high - low:.4g}"} <= set(differences)


def test_a_first_champion_is_shown_against_the_bar() -> None:
    """One plot, one column, and the bar."""
    candidate = shard(noisy(250, 400, 1))
    report = report_on(candidate, None, bar=150)
    page = render_report(report, RUN, candidate, None)
    assert "the first champion" in read_page(page).text
    assert page.count("<svg") == 1
    assert "<th>champion</th>" not in page.partition("worst seeds")[0]
