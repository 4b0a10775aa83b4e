"""Whether the fast path lowers the final return of SAC, TD3, DDPG or DQN.

    python -m benchmarks.training.off_policy_quality [--seeds N] [--case NAME …] [--workers N]
    [--table]

Stock SB3 and the NumPy path train the same experiment with the same seeds; `trainer_quality`
explains the test. Both draw the same numbers from the same generators, so two trainings begin alike
until rounding separates them.
"""

import sys

from benchmarks.training.trainer_quality import measure
from benchmarks.training.trainings import TrainingCase
from laptop.figures.final_returns import parse, record_cases
from laptop.figures.tables import newest_table

ARMS = ("sb3", "numpy")
#: Small networks, whose trainings take a fifth of the time; and few random steps before them.
SMALL = (("policy_kwargs", {"net_arch": [64, 64]}),)
SOON = (*SMALL, ("learning_starts", 1_000))
CASES = {
    "dqn cartpole": TrainingCase("dqn", "CartPole-v1", 50_000),
    "sac pendulum": TrainingCase("sac", "Pendulum-v1", 5_000),
    "sac pendulum, 64 units": TrainingCase("sac", "Pendulum-v1", 5_000, changes=SMALL),
    "td3 pendulum, 64 units": TrainingCase("td3", "Pendulum-v1", 8_000, changes=SOON),
    "ddpg pendulum, 64 units": TrainingCase("ddpg", "Pendulum-v1", 8_000, changes=SOON),
}


def main(arguments: list[str]) -> int:
    """Measure, or print the newest record as a table. :return: 0."""
    options = parse(__doc__, CASES, ARMS, arguments)
    if options.table:
        print(newest_table("off_policy_quality"))
        return 0
    record_cases(
        "off-policy-quality", options, {}, lambda name: measure(CASES[name], ARMS, options)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
