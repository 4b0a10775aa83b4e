"""Names that are safe as S3 key segments, EC2 tag values and DAG ids."""

import hashlib
import re
from typing import Annotated

from pydantic import AfterValidator

SLUG = re.compile(r"[a-z0-9]([a-z0-9_-]{0,98}[a-z0-9])?")


def is_slug(name: str) -> bool:
    """Check whether a name can be part of a key as it is.

    A slug has at most 100 characters: lower-case letters, digits, `-` and `_`.
    """
    return SLUG.fullmatch(name) is not None


def _checked_slug(name: str) -> str:
    if not is_slug(name):
        raise ValueError(
            f"must be at most 100 lower-case letters, digits, - and _, not {name!r:.100}"
        )
    return name


#: A name in a record that becomes part of a key.
Slug = Annotated[str, AfterValidator(_checked_slug)]


def slug(name: str) -> str:
    """Turn a name into a slug.

    Airflow's run ids hold `:`, `+` and `.`. If characters must be replaced, the slug ends with six
    digits of the name's SHA-256. So two different names get the same slug only by a chance of 1 in
    16 million.

    >>> slug("manual")
    'manual'
    >>> slug("scheduled__2026-11-22T02:00:00+00:00")
    'scheduled__2026-11-22t02-00-00-00-00-ba2d8a'
    """
    if is_slug(name):
        return name
    cleaned = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")[:92].strip("-_") or "x"
    return f"{cleaned}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
