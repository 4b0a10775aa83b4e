"""Play an environment with the champion, without torch and Airflow.

Between episodes the script loads a newer champion, if there is one.

    python docs/examples/drive_champion.py STORE EXPERIMENT [--episodes N]

STORE is a directory or s3://bucket. The script needs rl_lifecycle, onnxruntime and gymnasium. It
plays policies without memory and wrappers, on observations that are one array. A policy that was
trained under action masks gets the environment's masks.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnxruntime

from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.registry.champions import LoadedChampion, load_champion, refresh_champion
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.storage.s3_store import S3Store, split_s3_uri


def main() -> int:
    """Play episodes and print their returns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("experiment")
    parser.add_argument("--episodes", type=int, default=3)
    options = parser.parse_args()
    store = open_store(options.store)
    try:
        champion = load_champion(store, options.experiment)
    except LifecycleError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for seed in range(options.episodes):
        champion = refreshed(store, champion)
        if wrappers := ", ".join(wrapper.name for wrapper in champion.metadata.wrappers):
            sys.stderr.write(
                f"error: version {champion.version} plays inside {wrappers}: put the environment "
                "into these wrappers first\n"
            )
            return 2
        sys.stdout.write(
            f"version {champion.version}, seed {seed}: return {play(champion, seed):g}\n"
        )
    return 0


def open_store(uri: str) -> ObjectStore:
    """Open a directory or a bucket."""
    if not uri.startswith("s3://"):
        return DirectoryStore(Path(uri))
    import boto3

    return S3Store(boto3.client("s3"), *split_s3_uri(uri))


def refreshed(store: ObjectStore, champion: LoadedChampion) -> LoadedChampion:
    """Load a newer champion; if the store fails, keep the present one."""
    try:
        return refresh_champion(store, champion)
    except LifecycleError as error:
        sys.stderr.write(f"going on with version {champion.version}: {error}\n")
        return champion


def play(champion: LoadedChampion, seed: int) -> float:
    """Play one episode with the deterministic action."""
    session = onnxruntime.InferenceSession(champion.onnx, providers=["CPUExecutionProvider"])
    kwargs: dict[str, Any] = dict(champion.metadata.env_kwargs)
    env = gymnasium.make(champion.metadata.env_id, **kwargs)
    observation, _ = env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        feeds = {"obs": np.asarray(observation)[None]}
        if champion.metadata.action_masks:
            mask = np.asarray(env.get_wrapper_attr("action_masks")(), bool).reshape(1, -1)
            if not mask.any():
                raise ValueError(f"{champion.metadata.env_id} allows no action")
            feeds["action_masks"] = mask
        action = session.run(["action"], feeds)[0][0]
        observation, reward, terminated, truncated, _ = env.step(action)
        total, over = total + float(reward), terminated or truncated
    env.close()
    return total


if __name__ == "__main__":
    sys.exit(main())
