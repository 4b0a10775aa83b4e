"""Stored JSON has one form, and another form is refused."""

import pytest

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.experiment.seeds import SeedRange


def test_bytes_are_canonical() -> None:
    """JSON has sorted keys, no white space and one newline, so a digest identifies the value."""
    assert SeedRange(n_episodes=2, first_seed=1).to_json() == b'{"first_seed":1,"n_episodes":2}\n'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no json", "Invalid JSON"),
        (b'{"first_seed": 1}', "n_episodes: Field required"),
        (b'{"first_seed": 1, "n_episodes": 1, "more": 1}', "more: Extra inputs"),
        (b'{"first_seed": "x", "n_episodes": 1}', "first_seed"),
    ],
)
def test_another_form_is_refused_with_its_place(data: bytes, message: str) -> None:
    """The error names the object and the first wrong key."""
    with pytest.raises(InvalidRecordError, match=message) as caught:
        SeedRange.from_json(data, "s3://lake/x.json")
    assert caught.value.where == "s3://lake/x.json"
