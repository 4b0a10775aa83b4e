"""Check films before they are put into a page, because foreign code may have made them.

A page embeds a film as a data address of the type image/webp, which a browser never runs as a
script. So a film needs only to be a whole WebP of a reasonable size.
"""

import base64
import binascii
import struct

from rl_evaluator.messages import MOST_FILM_BYTES, EpisodeFilm, EpisodeToFilm
from rl_evaluator.pages.report_html import Film


def checked_films(films: tuple[EpisodeFilm, ...], asked: tuple[EpisodeToFilm, ...]) -> list[Film]:
    """Keep at most one film of each episode that was asked for."""
    by_seed = {film.seed: film for film in reversed(films)}
    return [_checked(by_seed[episode.seed]) for episode in asked if episode.seed in by_seed]


def _checked(film: EpisodeFilm) -> Film:
    try:
        webp = base64.b64decode(film.webp, validate=True)
    except (binascii.Error, ValueError):
        return Film(seed=film.seed, note="its film is not base64")
    if problem := find_problem(webp):
        return Film(seed=film.seed, note=problem)
    return Film(seed=film.seed, webp=webp, note=film.note)


def find_problem(webp: bytes) -> str | None:
    """Find why some bytes are not a WebP that a page can hold. No bytes are no problem.

    A WebP is a RIFF file: a head with the length of the rest, and chunks with their lengths.

    Source: https://developers.google.com/speed/webp/docs/riff_container

    >>> find_problem(b"<script>alert(1)</script>")
    'its film is not a WebP'
    """
    if not webp:
        return None
    if len(webp) > MOST_FILM_BYTES:
        return f"its film has {len(webp):,} bytes; a page may hold at most {MOST_FILM_BYTES:,}"
    if webp[:4] != b"RIFF" or webp[8:12] != b"WEBP" or len(webp) < 20:
        return "its film is not a WebP"
    if struct.unpack("<I", webp[4:8])[0] + 8 != len(webp) or not _chunks_fit(webp):
        return "its film is a damaged WebP"
    return None


def _chunks_fit(webp: bytes) -> bool:
    """Say whether the chunks of a WebP fill it exactly."""
    at = 12
    while at + 8 <= len(webp):
        (size,) = struct.unpack("<I", webp[at + 4 : at + 8])
        at += 8 + size + size % 2
    return at == len(webp)
