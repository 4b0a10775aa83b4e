"""Export a model that was trained elsewhere: any `model.zip` of SB3 or sb3-contrib.

Such a file contains pickled objects. Loading it can execute any code, so the user must allow this
with `--trust`.
"""

import json
import pickle
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rl_lifecycle.experiment.algorithms import ALGORITHMS, algorithm_names
from rl_trainer.checkpointing.numeric_class import pin_threads
from rl_trainer.errors import BadInputError
from rl_trainer.settings.algorithm_classes import load_class


@dataclass(frozen=True)
class ExportRequest:
    """The options of the command `export`.

    :param model: path of the `model.zip`.
    :param out: path of the ONNX file to write.
    :param vecnormalize: path of a pickled VecNormalize; None if observations are not normalized.
    :param algo: the algorithm's name; None to detect it from the file.
    :param trust: whether the user allows the code in the files to run.
    """

    model: str
    out: str
    vecnormalize: str | None = None
    algo: str | None = None
    env_id: str = ""
    trust: bool = False
    env_kwargs: dict[str, Any] = field(default_factory=dict)


#: Values that replace the saved schedules. An export does not train, so it needs no schedule.
SCHEDULES: dict[str, Any] = {
    "learning_rate": 0.0,
    "clip_range": 0.0,
    "clip_range_vf": None,
    "exploration_schedule": None,
}


def export_file(request: ExportRequest) -> dict[str, Any]:
    """Load a model and write it as an ONNX file, with its parameters in a second file.

    The parameters lie next to the ONNX file and end in `.safetensors`. Warm starts and imports need
    them.

    :return: the facts that the command prints as JSON.
    :raises BadInputError: if `trust` is False, a file is not a model of SB3, or the model cannot be
        exported.
    """
    if not request.trust:
        raise BadInputError(
            f"loading {request.model} executes the code inside it; add --trust if you trust the "
            "file's author"
        )

    pin_threads()
    algo = request.algo or detect_algorithm(request.model)
    if algo not in ALGORITHMS:
        raise BadInputError(f"--algo {algo} is unknown; use one of {', '.join(algorithm_names())}")

    # These imports are late, because they take seconds. After wrong options they are not needed.
    from safetensors.numpy import save as save_safetensors

    from rl_trainer.checkpointing.digests import digest_arrays
    from rl_trainer.onnx_export.export import export_policy

    model, statistics = load_model(algo, request.model), load_statistics(request.vecnormalize)
    if statistics is not None:
        check_statistics(model.observation_space, statistics, request)
    parameters = _parameters(model, statistics)
    exported = export_policy(
        model,
        parameters,
        algo=algo,
        env_id=request.env_id,
        env_kwargs=request.env_kwargs,
        statistics=statistics,
    )

    parameters_path = Path(request.out).with_suffix(".safetensors")
    try:
        Path(request.out).write_bytes(exported.onnx)
        parameters_path.write_bytes(save_safetensors(parameters))
    except OSError as error:
        raise BadInputError(f"--out {request.out}: {error.strerror}") from error
    return {
        "out": request.out,
        "parameters": str(parameters_path),
        "algo": algo,
        "digest": digest_arrays(parameters),
        "n_bytes": len(exported.onnx),
        "equality": exported.metadata.equality,
    }


def detect_algorithm(path: str) -> str:
    """Detect which algorithm saved a file. Only its JSON is read; nothing is unpickled.

    :raises BadInputError: if the file is not a `model.zip` of SB3.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            document = json.loads(archive.read("data"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BadInputError(f"--model {path} is not a model.zip of SB3: {error}") from error

    policy = document.get("policy_class")
    module = str(policy.get("__module__", "")) if isinstance(policy, dict) else ""
    by_module = [row for row in ALGORITHMS.values() if row.policy_module in module]
    # The longest match counts, because `qrdqn` contains `dqn`.
    known = max(by_module, key=lambda row: len(row.policy_module))
    if known.policy_module:
        return known.name

    # PPO, A2C and their relatives share a policy, so the attributes that they saved decide.
    marked = [row for row in by_module if set(row.saved_attributes) <= document.keys()]
    return max(marked, key=lambda row: len(row.saved_attributes)).name


def load_model(algo: str, path: str) -> Any:
    """Load a model to predict with.

    The saved schedules are replaced, because they are bytecode of the Python version that saved
    them.

    :raises BadInputError: if the file cannot be loaded.
    """
    from rl_trainer.onnx_export.old_gym import gym_stands_for_gymnasium

    kind = load_class(ALGORITHMS[algo])
    try:
        with gym_stands_for_gymnasium(), warnings.catch_warnings():
            # SB3 warns about attributes that it cannot load. An export does not need them.
            warnings.simplefilter("ignore")
            return kind.load(
                path, device="cpu", custom_objects=SCHEDULES | {"lr_schedule": _no_schedule}
            )
    except (
        OSError,
        ValueError,
        KeyError,
        AssertionError,
        ImportError,
        AttributeError,
        RuntimeError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        raise BadInputError(
            f"--model {path} cannot be loaded as {algo}: {' '.join(str(error).split())[:300]}"
        ) from error


def _no_schedule(_progress_remaining: float) -> float:
    return 0.0


def load_statistics(path: str | None) -> Any:
    """Load a pickled VecNormalize, which can execute any code.

    :return: the statistics; None if `path` is None.
    :raises BadInputError: if the file cannot be loaded.
    """
    if path is None:
        return None
    from rl_trainer.onnx_export.old_gym import gym_stands_for_gymnasium

    try:
        with Path(path).open("rb") as file, gym_stands_for_gymnasium():
            statistics = pickle.load(file)  # noqa: S301  the caller trusts it: --trust
    except (OSError, pickle.UnpicklingError, ImportError, AttributeError, EOFError) as error:
        raise BadInputError(f"--vecnormalize {path} cannot be loaded: {error}") from error

    statistics.training = False
    return statistics


def check_statistics(space: Any, statistics: Any, request: ExportRequest) -> None:
    """Refuse statistics that were collected on other observations than the model's.

    :raises BadInputError: with both shapes.
    """
    from gymnasium import spaces
    from stable_baselines3.common.vec_env import VecNormalize

    file = f"--vecnormalize {request.vecnormalize}"
    if not isinstance(statistics, VecNormalize):
        raise BadInputError(f"{file} holds a {type(statistics).__name__}, not a VecNormalize")
    if not statistics.norm_obs:
        return
    moments = (
        statistics.obs_rms if isinstance(statistics.obs_rms, dict) else {"": statistics.obs_rms}
    )
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    for name, found in moments.items():
        wanted = parts[name].shape if name in parts else None
        if found.mean.shape != wanted:
            raise BadInputError(
                f"{file} holds statistics of {_shape_words(name, found.mean.shape)}, but the "
                f"observations of --model {request.model} have {_shape_words(name, wanted)}: use "
                "the statistics that were saved with this model"
            )


def _shape_words(name: str, shape: tuple[int, ...] | None) -> str:
    part = f"{name!r} of " if name else ""
    return f"no {name!r}" if shape is None else f"{part}shape {list(shape)}"


def _parameters(model: Any, statistics: Any) -> Any:
    from rl_trainer.checkpointing.model_state import (
        capture,
        capture_normalisation,
        final_parameters,
    )

    return final_parameters(capture(model)) | capture_normalisation(statistics)
