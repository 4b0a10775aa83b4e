"""Action masks: which actions an environment allows now, for policies that were trained under them.

An environment says it with a method `action_masks()`, as sb3-contrib asks for it. The answer is one
flat row of booleans, choice after choice: `n` for Discrete, the sum of `nvec` for MultiDiscrete,
and for MultiBinary two for each bit (may it be 0, may it be 1). At least one option of each choice
must be allowed.

Source: https://sb3-contrib.readthedocs.io/en/master/modules/ppo_mask.html
"""

import math
from collections.abc import Iterator, Sequence

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.policies import PolicyMetadata, SpaceForm
from rl_lifecycle.experiment.algorithms import ALGORITHMS

#: The environment's method.
METHOD = "action_masks"


def choice_sizes(space: SpaceForm) -> tuple[int, ...]:
    """The number of options of each choice of an action space. Their sum is the mask's width.

    >>> choice_sizes(SpaceForm(kind="Discrete", n=4))
    (4,)
    >>> choice_sizes(SpaceForm(kind="MultiDiscrete", shape=(2,), n=(3, 5)))
    (3, 5)
    >>> choice_sizes(SpaceForm(kind="MultiBinary", shape=(3,)))
    (2, 2, 2)
    """
    if space.kind == "MultiBinary":
        return (2,) * math.prod(space.shape)
    if space.n is None:
        return ()
    return space.n if isinstance(space.n, tuple) else (space.n,)


def find_mask_problem(mask: Sequence[bool], sizes: Sequence[int]) -> str:
    """Say what is wrong with a mask. The answer is empty if nothing is.

    >>> find_mask_problem([True, False, False, False], [2, 2])
    'allows no option of choice 1'
    >>> find_mask_problem([False, False], [2])
    'allows no action'
    >>> find_mask_problem([True], [2])
    'has 1 values, but the action space needs 2'
    >>> find_mask_problem([False, True], [2])
    ''
    """
    if len(mask) != sum(sizes):
        return f"has {len(mask)} values, but the action space needs {sum(sizes)}"
    for index, options in enumerate(_choices(mask, sizes)):
        if not any(options):
            return "allows no action" if len(sizes) == 1 else f"allows no option of choice {index}"
    return ""


def allowed_options(
    options: Sequence[int], mask: Sequence[bool], sizes: Sequence[int]
) -> tuple[int, ...]:
    """Replace each forbidden option by an allowed one. Equal arguments give equal answers.

    :param options: the chosen option of each choice, counted from 0.

    >>> allowed_options([1, 0], [True, True, False, True], [2, 2])
    (1, 1)
    """
    chosen = []
    for option, allowed in zip(options, _choices(mask, sizes), strict=True):
        open_ones = [index for index, is_open in enumerate(allowed) if is_open]
        chosen.append(
            option if allowed[option] or not open_ones else open_ones[option % len(open_ones)]
        )
    return tuple(chosen)


def check_mask_input(metadata: PolicyMetadata, source: str) -> None:
    """Refuse a policy that was trained under action masks, but whose file does not take them.

    Such files are from releases before 0.2.0. Without the masks the policy plays forbidden actions.

    :raises InvalidRecordError: with the next step.
    """
    row = ALGORITHMS.get(metadata.algo)
    if row is not None and row.action_masks and not metadata.action_masks:
        raise InvalidRecordError(
            source,
            f"was trained by {metadata.algo} under action masks, but its file has no input "
            "`action_masks`, so it would play actions that are forbidden: train it again, or "
            "export its model.zip again with `python -m rl_trainer export`",
        )


def _choices(mask: Sequence[bool], sizes: Sequence[int]) -> Iterator[Sequence[bool]]:
    start = 0
    for size in sizes:
        yield mask[start : start + size]
        start += size
