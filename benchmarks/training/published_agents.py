"""Whether agents that others trained reach the returns that were published for them.

    git clone https://github.com/DLR-RM/rl-trained-agents
    python -m benchmarks.training.published_agents rl-trained-agents [--episodes N] [--only TEXT]

`--table` and `--explain` measure nothing new. Loading a model.zip of that repository executes code,
so clone it only where you trust it.

Each agent is exported and evaluated. The published returns are those of rl_zoo3
(published_returns.json: mean, standard deviation and number of episodes, from benchmark.md of
https://github.com/DLR-RM/rl-baselines3-zoo at commit 22e3ff24). Two means count as the same if they
differ by less than four standard errors of their difference. With about sixty comparisons, chance
alone then makes one of 250 such records different. Where two means differ, SB3 itself plays the
first of the same seeds with the same model.zip. If its returns are those of the exported policy,
the environment has changed since, not the policy.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laptop.figures.published_agents import (
    CHANGED,
    EXPLAINED,
    TODAY,
    is_same,
    standard_errors_apart,
)
from laptop.figures.records import FOLDER, write_record
from laptop.figures.tables import newest_table
from rl_trainer.checkpointing.numeric_class import pin_threads

FIRST_SEED = 1_000
PUBLISHED: dict[str, dict[str, list[float]]] = json.loads(
    Path(__file__).with_name("published_returns.json").read_text()
)


@dataclass(frozen=True)
class Agent:
    """One trained agent. :param statistics: its VecNormalize file, None if it has none."""

    algo: str
    env_id: str
    model: Path
    statistics: Path | None


def main(arguments: list[str]) -> int:
    """Evaluate, or print the newest record as a table.
    :return: 0, or 2 if the folder holds no agent.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="a clone of rl-trained-agents")
    parser.add_argument("--episodes", type=int, default=100, help="of each agent (default 100)")
    parser.add_argument("--only", default="", help="agents whose path holds this text")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="only let SB3 play where the newest record differs from the published mean",
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="print the newest record as Markdown, and measure nothing",
    )
    options = parser.parse_args(arguments)
    if options.table:
        print(newest_table("published_agents"))
        return 0
    agents = find_agents(options.folder, options.only) if options.folder else []
    if not agents:
        print(
            "error: give the folder of a clone of rl-trained-agents; none of the published agents "
            "is there",
            file=sys.stderr,
        )
        return 2
    pin_threads()
    if options.explain:
        newest = max(FOLDER.glob("*-published-agents.json"))
        record = json.loads(newest.read_text())
        explain(record["result"], agents)
        newest.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
        return 0
    measured = [measure(agent, options.episodes) for agent in agents]
    result = {
        "episodes": options.episodes,
        "first_seed": FIRST_SEED,
        "agents": [one for one in measured if "left_out" not in one],
        "left_out": [one for one in measured if "left_out" in one],
    }
    explain(result, agents)
    print(write_record("published-agents", result), file=sys.stderr)
    return 0


def find_agents(folder: Path, only: str = "") -> list[Agent]:
    """List the agents of a clone whose returns were published and whose environment there is
    today.
    """
    found = []
    for algo, environments in PUBLISHED.items():
        for env_id in environments:
            model = folder / algo / f"{env_id}_1" / f"{env_id}.zip"
            if model.is_file() and only in str(model):
                normalized = model.with_suffix("") / "vecnormalize.pkl"
                found.append(
                    Agent(algo, env_id, model, normalized if normalized.is_file() else None)
                )
    return found


def measure(agent: Agent, episodes: int) -> dict[str, Any]:
    """Export an agent and let the evaluator play its episodes; one that does not fit its
    environment is left out, and why is said.
    """
    from rl_evaluator.errors import SpaceMismatchError
    from rl_evaluator.playing.evaluation import Task, evaluate
    from rl_evaluator.playing.policies import load_policy
    from rl_trainer.onnx_export.foreign import ExportRequest, export_file

    env_id, env_kwargs = TODAY.get(agent.env_id, (agent.env_id, {}))
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "policy.onnx"
        statistics_file = str(agent.statistics) if agent.statistics else None
        exported = export_file(
            ExportRequest(
                str(agent.model), str(out), statistics_file, agent.algo, env_id, trust=True
            )
        )
        try:
            shard = evaluate(
                load_policy(out.read_bytes()), Task(env_id, env_kwargs, FIRST_SEED, episodes)
            )
        except SpaceMismatchError as error:  # trained with a wrapper
            return {"algo": agent.algo, "env_id": agent.env_id, "left_out": str(error)}
    returns = [value for value in shard.returns if value is not None]
    mean, deviation = statistics.fmean(returns), statistics.stdev(returns)
    published = PUBLISHED[agent.algo][agent.env_id]
    print(
        f"{agent.algo} {agent.env_id}: {mean:.1f}, published {published[0]:.1f}",
        file=sys.stderr,
        flush=True,
    )
    return {
        "algo": agent.algo,
        "env_id": agent.env_id,
        "played_on": env_id,
        "env_kwargs": env_kwargs,
        "normalized": bool(agent.statistics),
        "mean": round(mean, 3),
        "standard_deviation": round(deviation, 3),
        "episodes": len(returns),
        "published": published,
        "standard_errors_apart": standard_errors_apart(
            (mean, deviation, len(returns)), (published[0], published[1], published[2])
        ),
        "equality": exported["equality"],
        "seconds": shard.seconds,
        "first_returns": [round(value, 6) for value in returns[:EXPLAINED]],
    }


def explain(result: dict[str, Any], agents: list[Agent]) -> None:
    """Let SB3 play the first seeds of every agent whose mean is not the published one, and note
    what it got.
    """
    models = {(agent.algo, agent.env_id): agent for agent in agents}
    for one in result["agents"]:
        agent = models.get((one["algo"], one["env_id"]))
        if agent is not None and agent.env_id not in CHANGED and not is_same(one):
            one["sb3_returns"] = play_with_sb3(agent, result["first_seed"])
            if "first_returns" not in one:
                one["first_returns"] = measure(agent, EXPLAINED)["first_returns"]
            print(
                f"{agent.algo} {agent.env_id}: {one['first_returns']} here, {one['sb3_returns']} "
                "by SB3",
                file=sys.stderr,
                flush=True,
            )


def play_with_sb3(agent: Agent, first_seed: int) -> list[float]:
    """The returns of the first seeds, with `model.predict` and VecNormalize as SB3 has them."""
    import gymnasium

    from rl_trainer.onnx_export.foreign import load_model, load_statistics
    from rl_trainer.onnx_export.reference import Reference

    env_id, env_kwargs = TODAY.get(agent.env_id, (agent.env_id, {}))
    model, normalized = (
        load_model(agent.algo, str(agent.model)),
        load_statistics(str(agent.statistics) if agent.statistics else None),
    )
    env = gymnasium.make(env_id, **env_kwargs)
    returns = []
    for seed in range(first_seed, first_seed + EXPLAINED):
        reference, (observation, _), total, over = (
            Reference(model, normalized, None, 1),
            env.reset(seed=seed),
            0.0,
            False,
        )
        while not over:
            observation, reward, terminated, truncated, _ = env.step(
                reference.act(observation[None])[0]
            )
            total, over = total + float(reward), terminated or truncated
        returns.append(round(total, 6))
    return returns


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
