"""Training, selection and gate never share a seed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_lifecycle.errors import OverlappingSeedsError
from rl_lifecycle.experiment.seeds import (
    LONGEST,
    Purpose,
    SeedRange,
    check_no_overlap,
    first_seed,
    segment_seed,
    trial_seed,
)

TEXT = st.text(min_size=1, max_size=20)


@given(TEXT, TEXT)
def test_no_two_purposes_can_meet(experiment: str, run: str) -> None:
    """The longest evaluation of one purpose ends before the next purpose's seeds begin."""
    ranges = [
        SeedRange(first_seed=first_seed(purpose, experiment, run), n_episodes=LONGEST)
        for purpose in Purpose
    ]
    assert not any(a.overlaps(b) for i, a in enumerate(ranges) for b in ranges[i + 1 :])
    assert all(one.first_seed >= 0 and one.first_seed + LONGEST <= 2**31 for one in ranges)


def test_overlap_with_an_earlier_evaluation_is_refused() -> None:
    """Seeds of an earlier evaluation are refused, because they give no new evidence."""
    served = {"night-1": SeedRange(first_seed=100, n_episodes=50)}
    check_no_overlap(SeedRange(first_seed=150, n_episodes=50), "night-2", served)
    with pytest.raises(OverlappingSeedsError, match="night-2 overlap with those of night-1"):
        check_no_overlap(SeedRange(first_seed=149, n_episodes=1), "night-2", served)


@given(st.integers(0, 2**31 - 1), st.integers(0, 1000))
def test_streams_of_a_segment_differ_and_repeat(trial: int, segment: int) -> None:
    """Each generator has its own seed, which is the same when the segment is repeated."""
    streams = ["python", "numpy", "torch", "env-0", "env-1"]
    seeds = [segment_seed(trial, segment, stream) for stream in streams]
    assert len(set(seeds)) == len(streams)
    assert seeds == [segment_seed(trial, segment, stream) for stream in streams]
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_reseed_off_forgets_the_run() -> None:
    """With `reseed: false` only the experiment's seed and the trial decide."""
    assert trial_seed(0, "a", "seed-0", reseed=False) == trial_seed(0, "b", "seed-0", reseed=False)
    assert trial_seed(0, "a", "seed-0", reseed=True) != trial_seed(0, "b", "seed-0", reseed=True)
