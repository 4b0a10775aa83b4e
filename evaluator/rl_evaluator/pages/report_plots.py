"""The two plots of a report page, as inline SVG.

The plots need no library and no script. People with colour-blindness can tell the colours apart
(Okabe and Ito, https://jfly.uni-koeln.de/color/). The lines also differ in their dashes.
"""

import html
from collections.abc import Sequence

WIDTH, HEIGHT = 480, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 14, 48
#: More points than this would hide each other, so only every k-th point is drawn then.
MOST_POINTS = 2000


class Axes:
    """The two axes of a plot, and the shapes that were drawn between them.

    :param x: the label of the axis, its low end, and its higher end.
    """

    def __init__(
        self, title: str, x: tuple[str, float, float], y: tuple[str, float, float]
    ) -> None:
        self.title = title
        self.x_label, self.x_low, self.x_high = x
        self.y_label, self.y_low, self.y_high = y
        self.parts: list[str] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Convert a pair of values to SVG coordinates."""
        across = (x - self.x_low) / (self.x_high - self.x_low)
        up = (y - self.y_low) / (self.y_high - self.y_low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (
            HEIGHT - TOP - BOTTOM
        )

    def line(self, start: tuple[float, float], end: tuple[float, float], kind: str) -> None:
        """Draw a straight line.

        :param kind: its CSS class.
        """
        (x1, y1), (x2, y2) = self.at(*start), self.at(*end)
        self.parts.append(
            f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
        )

    def dots(self, points: Sequence[tuple[float, float]]) -> None:
        """Draw a dot for each point."""
        every = max(1, -(-len(points) // MOST_POINTS))
        for x, y in points[::every]:
            across, up = self.at(x, y)
            self.parts.append(f'<circle class="dot" cx="{across:.1f}" cy="{up:.1f}" r="2.5"/>')

    def steps(self, points: Sequence[tuple[float, float]]) -> None:
        """Draw a line through points."""
        path = " ".join(
            f"{across:.1f},{up:.1f}" for across, up in (self.at(*point) for point in points)
        )
        self.parts.append(f'<polyline class="curve" points="{path}"/>')

    def to_svg(self) -> str:
        """Write the plot as an `<svg>` element."""
        title = html.escape(self.title)
        return (
            (
                f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
                f'aria-label="{title}"><title>{title}</title>'
            )
            + "".join((*self._frame(), *self.parts))
            + "</svg>"
        )

    def _frame(self) -> list[str]:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        frame = [
            (
                f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{right - LEFT}" '
                f'height="{bottom - TOP}"/>'
            ),
            (
                f'<text x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 8}" '
                f'text-anchor="middle">{html.escape(self.x_label)}</text>'
            ),
            f'<text transform="translate(14 {(TOP + bottom) / 2:.0f}) rotate(-90)" '
            'text-anchor="middle">'
            f"{html.escape(self.y_label)}</text>",
        ]
        for k in range(5):
            x = self.x_low + k / 4 * (self.x_high - self.x_low)
            y = self.y_low + k / 4 * (self.y_high - self.y_low)
            frame.append(
                f'<text x="{self.at(x, 0)[0]:.1f}" y="{bottom + 16}" '
                f'text-anchor="middle">{x:.4g}</text>'
            )
            frame.append(
                f'<text x="{LEFT - 6}" y="{self.at(0, y)[1] + 4:.1f}" '
                f'text-anchor="end">{y:.4g}</text>'
            )
        return frame


def plot_pairs(
    candidate: Sequence[float],
    champion: Sequence[float],
    crash_below: float,
    return_range: tuple[float, float],
) -> str:
    """Plot the candidate's return against the champion's, one dot for each seed.

    A dot above the diagonal is a seed on which the candidate did better. The dashed lines are the
    crash threshold.

    :param return_range: both axes, if all returns are equal.
    """
    low, high = _limits([*candidate, *champion], return_range)
    axes = Axes(
        "Return of the candidate against return of the champion, one dot per seed",
        ("champion's return", low, high),
        ("candidate's return", low, high),
    )
    axes.dots(list(zip(champion, candidate, strict=True)))
    axes.line((low, low), (high, high), "diagonal")
    if low < crash_below < high:
        axes.line((crash_below, low), (crash_below, high), "crash")
        axes.line((low, crash_below), (high, crash_below), "crash")
    return axes.to_svg()


def plot_share(
    values: Sequence[float],
    label: str,
    mark: float,
    possible: tuple[float, float],
    bound: float | None = None,
) -> str:
    """Plot the share of values at or below each value.

    :param mark: a value to compare with, e.g. 0 for differences.
    :param possible: the axis, if all values are equal to the mark.
    :param bound: the gate's lower bound of the mean. If it is None, no bound is drawn.
    """
    ordered, n = sorted(values), len(values)
    low, high = _limits([*ordered, mark], possible)
    axes = Axes(
        f"Share of episodes at or below each {label}", (label, low, high), ("share", 0.0, 1.0)
    )
    every = max(1, n // 500)
    points = [(low, 0.0)]
    for index in range(0, n, every):
        points += [(ordered[index], index / n), (ordered[index], min(1.0, (index + every) / n))]
    axes.steps([*points, (high, 1.0)])
    axes.line((mark, 0.0), (mark, 1.0), "diagonal")
    if bound is not None and low < bound < high:
        axes.line((bound, 0.0), (bound, 1.0), "crash")
    return axes.to_svg()


def _limits(values: Sequence[float], possible: tuple[float, float]) -> tuple[float, float]:
    """Return the ends of an axis: those of the values, or of what is possible if all are equal."""
    low, high = min(values), max(values)
    return (low, high) if high > low else possible
