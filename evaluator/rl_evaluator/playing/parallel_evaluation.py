"""Evaluate a policy in several processes of one machine, each with a part of the seeds."""

import itertools
import multiprocessing
import time
from dataclasses import replace

from rl_evaluator.playing.evaluation import Task, evaluate
from rl_evaluator.playing.policies import load_policy
from rl_lifecycle.evaluation.requests import Shard, merge_shards


def evaluate_in_parallel(policy: bytes, source: str, task: Task, n_processes: int) -> Shard:
    """Run a task's episodes in several processes.

    :param policy: the ONNX file's bytes.
    :param source: the policy's name in errors.
    :return: the same shard as from one process; `seconds` is the time that passed, not the sum over
        the processes.
    :raises EvaluatorError: as :func:`rl_evaluator.playing.evaluation.evaluate` and
        :func:`rl_evaluator.playing.policies.load_policy`.
    """
    loaded = load_policy(policy, source)

    parts = split_task(task, n_processes)
    if len(parts) == 1:
        return evaluate(loaded, task)
    started = time.perf_counter()
    # New processes are spawned, because onnxruntime's threads do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(len(parts)) as pool:
        shards = pool.starmap(_evaluate_part, [(policy, source, part) for part in parts])
    return merge_shards(shards).with_seconds(round(time.perf_counter() - started, 6))


def split_task(task: Task, n_parts: int) -> list[Task]:
    """Split a task into consecutive parts with nearly equal numbers of episodes.

    >>> task = Task("CartPole-v1", {}, first_seed=10, n_episodes=5)
    >>> [(part.first_seed, part.n_episodes) for part in split_task(task, 2)]
    [(10, 3), (13, 2)]
    """
    n_parts = min(n_parts, task.n_episodes)
    edges = [-(-task.n_episodes * k // n_parts) for k in range(n_parts + 1)]
    return [
        replace(task, first_seed=task.first_seed + start, n_episodes=end - start)
        for start, end in itertools.pairwise(edges)
    ]


def _evaluate_part(policy: bytes, source: str, task: Task) -> Shard:
    return evaluate(load_policy(policy, source), task)
