"""The arithmetic and the words of the console's pages, evaluated by a browser; and their size."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route

from tests.conftest import ROOT
from tests.plugins.console.browser import opened_browser

WEB = ROOT / "plugins/rl_airflow/console/web"
PLACE = "http://console.invalid/"
MOST_BYTES = 60_000


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page that knows the modules and nothing else."""

    def answer(route: Route) -> None:
        name = route.request.url.removeprefix(PLACE)
        if not name:
            route.fulfill(body="<!doctype html>", content_type="text/html")
        else:
            route.fulfill(body=(WEB / Path(name).name).read_text(), content_type="text/javascript")

    with opened_browser() as browser:
        page = browser.new_page()
        page.route("**/*", answer)
        page.goto(PLACE)
        page.evaluate(
            "async () => Object.assign(globalThis, await import('./formats.js'),"
            " await import('./series.js'))"
        )
        yield page


def test_all_modules_together_are_small() -> None:
    """What a browser loads has at most 60 kB, compressed."""
    sizes = {path.name: len(gzip.compress(path.read_bytes())) for path in WEB.iterdir()}
    assert sum(sizes.values()) <= MOST_BYTES, sizes


def test_the_modules_load_nothing_from_elsewhere_and_write_no_markup() -> None:
    """Pages import only each other, and text reaches the page only as text."""
    for path in WEB.iterdir():
        text = path.read_text()
        assert path.suffix == ".js"
        for forbidden in ("http://", "https://", "innerHTML", "dangerouslySetInnerHTML", "eval("):
            assert forbidden not in text, f"{path.name} holds {forbidden}"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("short(12345)", "12.3k"),
        ("short(999999)", "1M"),
        ("short(-0.000123456)", "-0.0001235"),
        ("short(null)", "–"),
        ("whole(1234567.4)", "1,234,567"),
        ("usd(0.0021)", "$0.0021"),
        ("usd(0)", "$0.00"),
        ("usd(12.5)", "$12.50"),
        ("usd(null)", "–"),
        ("probability(1.4e-22)", "1.4e-22"),
        ("probability(1.4e-5)", "1.4e-05"),
        ("probability(0)", "below 1e-300"),
        ("probability(0.0321)", "0.0321"),
        ("duration(59)", "59 s"),
        ("duration(3600)", "1 h"),
        ("duration(90061)", "1 d 1 h"),
        ("duration(0.4)", "0 s"),
        ("utcTime('2026-11-30T21:45:10+00:00')", "2026-11-30 21:45:10 UTC"),
        ("localTime('soon')", "–"),
        ("fromNow('2026-11-30T12:00:00Z', Date.parse('2026-11-30T08:55:00Z'))", "in 3 h 5 min"),
        ("fromNow('2026-11-28T12:00:00Z', Date.parse('2026-11-30T12:00:00Z'))", "2 d ago"),
        ("count(1, 'run')", "1 run"),
        ("count(2000, 'run')", "2,000 runs"),
        ("wordsOf('PROMOTE')", "promote"),
        ("wordsOf('SOME_NEW_ONE')", "SOME NEW ONE"),
        (r"printable('a\u001b[31mb\u202ec\rd\te')", "abcd\te"),
        ("plainText('[Report](https://x.test/a) **now**')", "Report now"),
        (r"plainText('- **one**\n- two - three')", "• one\n• two - three"),
    ],
)
def test_values_have_words(page: Page, expression: str, value: str) -> None:
    """Numbers, money, durations and times are written as people write them."""
    assert page.evaluate(expression) == value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("ticksOf(0, 1, 5)", [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ("ticksOf(-95, 510, 5)", [0, 200, 400]),
        ("ticksOf(3, 3)", []),
        ("axisOf([5, 5])", [4, 6]),
        ("axisOf([])", [0, 1]),
        ("axisOf([0, 100], 0.1)", [-10, 110]),
        ("medianOf([3, 1, 2, 10])", 2.5),
        ("medianOf([])", None),
        ("valueAt([[0, 0], [10, 5]], 4)", 2),
        ("valueAt([[0, 0], [10, 5]], 11)", None),
        ("valueAt([[5, 1], [10, 5]], 4)", None),
        ("nearest([[0, 1], [10, 2]], 6)", [10, 2]),
        (
            "bandOf([[[0, 1], [10, 3]], [[0, 3], [10, 5]], [[0, 2]]])",
            [[0, 2, 1, 3], [10, 4, 3, 5]],
        ),
        ("bandOf([[], []])", []),
        ("bestOf([[[0, 1]], [[0, 9]], []])", 1),
        ("bestOf([])", -1),
        ("differencesOf([3, 5], [1, 6])", [2, -1]),
        ("differencesOf([3, 5], 4)", [-1, 1]),
        ("tallyOf([1, 0, -2, 3])", {"better": 2, "worse": 1, "equal": 1}),
        ("binsOf([0, 0.5, 1, 7, -7], 0, 1, 2)", [2, 3]),
        ("quantilesOf([3, 1, 2])", [[0, 1], [50, 2], [100, 3]]),
        (
            "pairedOf({first_seed: 10, candidate: [1, 2, 3]}, {first_seed: 11, candidate: [5, 3]})",
            {"n": 2, "mean": 1.5, "better": 1, "worse": 0, "equal": 1},
        ),
        ("pairedOf({first_seed: 10, candidate: [1]}, {first_seed: 50, candidate: [5]})", {"n": 0}),
    ],
)
def test_charts_reckon_with_the_values(page: Page, expression: str, value: Any) -> None:
    """Ticks, bands, bins and pairs follow from the points."""
    assert page.evaluate(expression) == value


def test_a_thinned_curve_keeps_its_ends_and_its_peaks(page: Page) -> None:
    """A spike among 10,000 points is still there among 100."""
    points = [[step, 0.0] for step in range(10_000)]
    points[4321][1], points[777][1] = 99.0, -99.0
    thin = page.evaluate(f"thinned({json.dumps(points)}, 100)")
    assert len(thin) <= 100
    assert (thin[0], thin[-1]) == (points[0], points[-1])
    assert [4321, 99] in thin
    assert [777, -99] in thin
    assert [step for step, _ in thin] == sorted({step for step, _ in thin})


def test_one_hundred_thousand_values_have_an_extent(page: Page) -> None:
    """The extent of many values does not overflow the browser's stack."""
    assert page.evaluate("extentOf(Array.from({length: 500000}, (_, k) => k))") == [0, 499_999]
