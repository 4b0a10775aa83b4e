"""A report, and its summary for a log."""

from rl_lifecycle.evaluation.decision_reports import Report, summarise_report
from tests.lifecycle.evaluation.made_up_reports import noisy, report_on, shard


def test_a_report_is_read_back_as_it_was_written() -> None:
    """A report with its statistics survives JSON."""
    candidate, champion = shard(noisy(250, 400, 1)), shard(noisy(180, 400, 2))
    report = report_on(candidate, champion)
    assert report.statistics is not None
    assert Report.from_json(report.to_json()) == report


def test_the_short_text_says_what_decided() -> None:
    """The short text for a log has the decision, the means and the crashes."""
    candidate, champion = shard(noisy(250, 400, 1)), shard(noisy(180, 400, 2))
    lines = summarise_report(report_on(candidate, champion)).splitlines()
    assert lines[0].startswith("PROMOTE: after")
    assert "shown to be at least +" in lines[1]
    assert lines[2].startswith("crashes (below 100) ")
