"""Published agents: the environments they ran in, and how their returns compare with ours."""

import math
import statistics
from typing import Any

#: The names and arguments that old environments have today. Gymnasium has no other form of them.
TODAY: dict[str, tuple[str, dict[str, Any]]] = {
    "LunarLander-v2": ("LunarLander-v3", {}),
    "LunarLanderContinuous-v2": ("LunarLander-v3", {"continuous": True}),
    "Ant-v3": ("Ant-v4", {"use_contact_forces": True}),
    **{
        f"{name}-v3": (f"{name}-v4", {})
        for name in ("HalfCheetah", "Hopper", "Humanoid", "Swimmer", "Walker2d")
    },
}
#: Environments that no longer exist in their old form, and the reason.
CHANGED = dict.fromkeys(
    ("Ant-v3", "Humanoid-v3"),
    "the simulator of that time left the contact forces in the observation at zero",
)
STANDARD_ERRORS = 4.0
#: How many episodes SB3 plays, where a mean is not the published one.
EXPLAINED = 10


def published_agents(record: dict[str, Any]) -> str:
    """A record as Markdown: one row an environment, `ours / published` for each algorithm."""
    agents = record["result"]["agents"]
    comparable = [agent for agent in agents if agent["env_id"] not in CHANGED]
    algorithms = sorted({agent["algo"] for agent in comparable})
    cells = {
        (agent["env_id"], agent["algo"]): f"{agent['mean']:.0f} / {agent['published'][0]:.0f}"
        + ("" if is_same(agent) else " *")
        for agent in comparable
    }
    lines = [
        f"| ours / published | {' | '.join(algorithms)} |",
        "|---" * (len(algorithms) + 1) + "|",
    ]
    for env_id in dict.fromkeys(
        agent["env_id"] for agent in sorted(comparable, key=lambda agent: agent["env_id"])
    ):
        played_on = TODAY.get(env_id, (env_id, {}))[0]
        name = env_id if played_on == env_id else f"{env_id}, on {played_on}"
        lines.append(
            f"| {name} | {' | '.join(cells.get((env_id, algo), '') for algo in algorithms)} |"
        )
    same, loaded = sum(map(is_same, comparable)), len(agents) + len(record["result"]["left_out"])
    changed = sorted({agent["env_id"] for agent in agents} & CHANGED.keys())
    lines += [
        "",
        f"{record['measured_at'][:10]}, {loaded} agents loaded and exported, "
        f"{record['result']['episodes']} episodes each; "
        f"of {len(comparable)} that can be compared, {same} are within {STANDARD_ERRORS:.0f} "
        "standard errors of the mean"
        + (f" (* is not; {_explained(comparable)})." if same < len(comparable) else ".")
        + (
            f" Left out: {' and '.join(changed)}, because {CHANGED[changed[0]]}." if changed else ""
        ),
    ]
    return "\n".join(lines)


def is_same(agent: dict[str, Any]) -> bool:
    """Whether our mean return of an agent agrees with the published mean."""
    return bool(agent["standard_errors_apart"] <= STANDARD_ERRORS)


def standard_errors_apart(
    ours: tuple[float, float, float], theirs: tuple[float, float, float]
) -> float:
    """The difference of two means, in standard errors of that difference.

    :param ours: mean, standard deviation, number of episodes. :param theirs: the same.

    >>> standard_errors_apart((10.0, 3.0, 9), (10.0, 3.0, 9))
    0.0
    >>> standard_errors_apart((10.0, 3.0, 9), (14.0, 0.0, 9))
    4.0
    """
    spread = math.sqrt(ours[1] ** 2 / ours[2] + theirs[1] ** 2 / theirs[2])
    gap = abs(ours[0] - theirs[0])
    return round(gap / spread, 2) if spread else (0.0 if gap < 1e-9 else math.inf)


def _explained(agents: list[dict[str, Any]]) -> str:
    """Whether SB3 gets our returns where both are from the published mean."""
    apart = []
    for agent in agents:
        if "sb3_returns" in agent:
            sides = [
                (statistics.fmean(returns), statistics.stdev(returns), len(returns))
                for returns in (agent["first_returns"], agent["sb3_returns"])
            ]
            apart.append(standard_errors_apart(sides[0], sides[1]))
    agree = sum(value <= STANDARD_ERRORS for value in apart)
    return (
        f"there SB3 itself played the same model.zip on {EXPLAINED} of the seeds: its mean is "
        "within "
        f"{STANDARD_ERRORS:.0f} standard errors of ours for {agree} of {len(apart)}, so it is the "
        "environments that have changed"
    )
