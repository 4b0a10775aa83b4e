"""A film may come from foreign code, so it is checked before it is put into a page."""

import base64
import io

import pytest
from PIL import Image

from rl_evaluator.messages import EpisodeFilm, EpisodeToFilm
from rl_evaluator.pages.film_checks import checked_films, find_problem


def webp() -> bytes:
    """Make a small animated WebP."""
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (4, 4), (n, 0, 0)) for n in range(3)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (webp(), None),
        (b"", None),
        (b"<script>alert(1)</script>", "its film is not a WebP"),
        (b"RIFF\x10\x00\x00\x00WEBP<script>alert", "its film is a damaged WebP"),
        (webp() + b"<script>", "its film is a damaged WebP"),
        (webp()[:-5], "its film is a damaged WebP"),
        (b"RIFF" + b"\x00" * 1_000_001, "its film has 1,000,005 bytes"),
    ],
)
def test_only_a_whole_webp_is_a_film(data: bytes, problem: str | None) -> None:
    """Anything else is replaced by a note."""
    found = find_problem(data)
    assert found is None if problem is None else found is not None and found.startswith(problem)


def test_only_the_episodes_that_were_asked_for_are_shown() -> None:
    """Other seeds, a second film of a seed and what is no base64 do not reach the page."""
    data = base64.b64encode(webp()).decode()
    films = (
        EpisodeFilm(seed=1, webp=data),
        EpisodeFilm(seed=1, note="again"),
        EpisodeFilm(seed=2, webp='"><script>alert(1)</script>'),
        EpisodeFilm(seed=3, webp=data),
    )
    shown = checked_films(films, (EpisodeToFilm(seed=1), EpisodeToFilm(seed=2)))
    assert [(film.seed, bool(film.webp), film.note) for film in shown] == [
        (1, True, ""),
        (2, False, "its film is not base64"),
    ]
