"""The progress of a training, as numbers and as a line for a person."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingProgress:
    """How far the training loop is.

    :param step: environment steps since the beginning of the training.
    :param episode_return_mean: mean of SB3's latest episodes; None before the first one ends.
    """

    step: int
    steps_per_s: float
    episode_return_mean: float | None


def describe_progress(
    progress: TrainingProgress, total_timesteps: int, seconds: float, usd_per_hour: float | None
) -> str:
    """Describe in one line how far and how fast the training is, and its remaining time and cost.

    :param seconds: time since this machine began to train, in seconds.
    :param usd_per_hour: price of the machine; None if unknown.

    >>> describe_progress(TrainingProgress(25_000, 500.0, 20.5), 100_000, 60.0, 0.36)
    '25,000/100,000 steps (25%), 500 steps/s, mean return 20.5, 150 s left, USD 0.0060 so far, about
    USD 0.0210 in total'
    """
    left_s = max(total_timesteps - progress.step, 0) / max(progress.steps_per_s, 1e-9)
    parts = [
        (
            f"{progress.step:,}/{total_timesteps:,} steps "
            f"({min(1.0, progress.step / total_timesteps):.0%})"
        ),
        f"{progress.steps_per_s:,.0f} steps/s",
    ]
    if progress.episode_return_mean is not None:
        parts.append(f"mean return {progress.episode_return_mean:.1f}")
    parts.append(f"{left_s:.0f} s left" if left_s < 600 else f"{left_s / 60:.0f} min left")
    if usd_per_hour is not None:
        parts += [
            f"USD {seconds * usd_per_hour / 3600:.4f} so far",
            f"about USD {(seconds + left_s) * usd_per_hour / 3600:.4f} in total",
        ]
    return ", ".join(parts)
