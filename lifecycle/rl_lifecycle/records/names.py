"""Names that are safe as S3 key segments, EC2 tag values and DAG ids."""

import hashlib
import re

SLUG = re.compile(r"[a-z0-9]([a-z0-9_-]{0,98}[a-z0-9])?")


def is_slug(name: str) -> bool:
    """Tell whether a name can stand in a key as it is: lower case, digits, `-`, `_`, at most 100
    characters.
    """
    return SLUG.fullmatch(name) is not None


def slug(name: str) -> str:
    """Make a name that is safe in keys; different run ids give different slugs, but for a chance of
    1 in 16 million.

    Airflow's run ids hold `:`, `+` and `.`. What had to be replaced is told apart by six digits of
    its SHA-256.

    >>> slug("manual")
    'manual'
    >>> slug("scheduled__2026-11-22T02:00:00+00:00")
    'scheduled__2026-11-22t02-00-00-00-00-ba2d8a'
    """
    if is_slug(name):
        return name
    cleaned = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")[:92].strip("-_") or "x"
    return f"{cleaned}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
