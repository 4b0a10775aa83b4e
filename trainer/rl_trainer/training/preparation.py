"""Prepare a trial: check its spec, and build the trainer of its segments."""

import functools

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.compute_settings import why_removed
from rl_lifecycle.experiment.hyperparameters import check_segment
from rl_lifecycle.experiment.settings.machine_counts import check_machines
from rl_lifecycle.experiment.settings.shards import check_shards
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.object_store import ObjectStore
from rl_trainer.environments.factory import EnvironmentFactory, check_environment, max_episode_steps
from rl_trainer.environments.vec_env import close_environment
from rl_trainer.errors import BadInputError, OutOfMemoryError
from rl_trainer.onnx_export.export import check_exportable
from rl_trainer.settings.algorithm_classes import get_algorithm
from rl_trainer.settings.model_settings import read_settings
from rl_trainer.settings.replay_sizes import ReplayTooLargeError, check_replay_fits
from rl_trainer.shards.collecting import ShardWork
from rl_trainer.training.models import ModelBuilder, release
from rl_trainer.training.segments import SegmentPlan, SegmentTrainer
from rl_trainer.training.warm_start import check_acts_alike, read_warm_start


def make_trainer(
    spec: Spec,
    trial: str,
    store: ObjectStore | None,
    *,
    fast: bool = True,
    device: str | None = None,
) -> SegmentTrainer:
    """Check a spec against its algorithm and environment, and make the trainer of its segments.

    A spec of an earlier release may ask for CUDA graphs. SB3's own updates then train on the GPU,
    as they did in that release on a machine that could not record them.

    :param store: the store with the champion's parameters. If it is None, a spec that needs them
        is refused.
    :param fast: use the NumPy path if it covers the spec.
    :param device: `cpu` for a machine that only collects; None: the best device for the policy.
    :raises BadInputError: if the spec cannot be trained.
    """
    factory = _factory(spec)
    settings = factory.settings
    env = check_environment(factory)
    try:
        algo, compute = spec.experiment.algo, spec.experiment.compute
        check_shards(spec.shards, algo, settings.n_envs, "spec")
        check_machines(compute, algo, spec.shards, settings.n_envs, "spec")
        check_segment(
            spec.experiment, spec.segment_timesteps, spec.hyperparameters, max_episode_steps(env)
        )
    except InvalidExperimentError as error:
        raise BadInputError(str(error)) from error
    finally:
        close_environment(env)
    plan = SegmentPlan(
        spec.trial(trial).seed,
        spec.segment_timesteps,
        spec.experiment.total_timesteps,
        spec.n_segments,
        spec.shards,
    )
    fits = functools.partial(check_replay_fits, settings, plan.total_timesteps)
    removed = why_removed(spec.experiment.compute)
    builder = ModelBuilder(
        settings,
        device or _device(settings.policy, asked=bool(removed)),
        fast=fast and not removed,
        why_not_fast=removed or "switched off",
        check=fits,
    )
    return SegmentTrainer(plan, factory, builder, read_warm_start(spec, store))


def make_work(spec: Spec, trial: str) -> ShardWork:
    """Make what a collector needs, beside a trainer that has checked the spec."""
    factory = _factory(spec)
    builder = ModelBuilder(factory.settings, fast=not why_removed(spec.experiment.compute))
    return ShardWork(spec.trial(trial).seed, spec.shards, factory, builder.build_collector)


def _factory(spec: Spec) -> EnvironmentFactory:
    get_algorithm(spec.experiment.algo)
    settings = read_settings(spec.experiment.algo, spec.hyperparameters)
    return EnvironmentFactory(spec.experiment.env_id, spec.experiment.env_kwargs, settings)


def check_untrained(trainer: SegmentTrainer, *, begun: bool) -> None:
    """Build an untrained model, and check it before a segment is trained.

    This chooses the path, and finds settings that SB3 or the ONNX export refuses.

    :param begun: whether a checkpoint exists, which shows that some machine could train the spec.
        A buffer that does not fit is then a problem of the machine and not of the spec.
    :raises BadInputError: if the spec cannot be trained.
    :raises OutOfMemoryError: if the replay buffer needs a larger machine.
    """
    try:
        model = trainer.prepare(0, None)
    except ReplayTooLargeError as error:
        if not begun:
            raise
        raise OutOfMemoryError(f"{error.facts}: continue on a larger machine") from error
    check_exportable(model)
    if trainer.initial is not None:
        check_acts_alike(model, trainer.initial)
    model.env.close()
    release(model)


def _device(policy: str, *, asked: bool) -> str:
    """Choose the device. Small MLP policies train faster on the CPU, even if there is a GPU.

    :param asked: whether the spec asks for the GPU.
    """
    import torch

    large = "Cnn" in policy or "MultiInput" in policy
    return "cuda" if (large or asked) and torch.cuda.is_available() else "cpu"
