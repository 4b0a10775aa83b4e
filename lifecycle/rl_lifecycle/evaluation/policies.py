"""The form of an ONNX policy, for the trainer, the evaluator and any other consumer.

The inputs have the names of the observation's keys (`obs` if it is not a dict), the batch first and
the types of the space. The outputs are `action`, the deterministic action as the environment
expects it, and then the parameters of the distribution: `logits` (discrete kinds), or `mean` and
`log_std` (Gaussian). Samples of a squashed Gaussian go through tanh, and then from [-1, 1] to the
action space. Samples of a plain Gaussian are clipped to the action space. Policies that remember
(an LSTM, stacked frames) also have `state_in` and `state_out`, which are zeros at the beginning of
an episode. Normalisation, scaling and clipping are part of the graph. There is no external data and
no custom operator, and at most :data:`MAX_BYTES`. The metadata is JSON under :data:`METADATA_KEY`.

A policy that was trained under action masks also has the input `action_masks`, and its metadata say
so. It is bool, the batch first, then one value for each option of each choice: what the
environment's `action_masks()` returns (:mod:`rl_lifecycle.evaluation.action_masks`). The name is
reserved. The action and the logits are those under the mask: a forbidden option has the logit
:data:`FORBIDDEN`. If a row of the mask allows nothing, its action means nothing. So a consumer must
check the mask first. The actions of a masked MultiBinary space are pairs of logits, and their
distribution is `multi_categorical`.
"""

from typing import Literal, Self

from pydantic import Field, JsonValue

from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.experiment.wrappers import WrapperForm
from rl_lifecycle.records.record import Record
from rl_lifecycle.storage.layout import TrialId, checkpoint_prefix, policy_key

METADATA_KEY = "nightshift"
OBSERVATION = "obs"
ACTION = "action"
LOGITS = "logits"
MEAN = "mean"
LOG_STD = "log_std"
STATE_IN = "state_in"
STATE_OUT = "state_out"
ACTION_MASKS = "action_masks"
#: The logit of a forbidden action, as in sb3-contrib.
FORBIDDEN = -1e8
MAX_BYTES = 256 * 1024 * 1024
OPSET = 17


class SpaceForm(Record):
    """A Gymnasium space, as far as a consumer needs it."""

    kind: Literal["Box", "Discrete", "MultiDiscrete", "MultiBinary", "Dict", "Tuple"]
    shape: tuple[int, ...] = ()
    dtype: str = ""
    low: float | tuple[float, ...] | None = Field(
        None, description="None: unbounded; one number: the same everywhere"
    )
    high: float | tuple[float, ...] | None = None
    n: int | tuple[int, ...] | None = None
    start: int | tuple[int, ...] = Field(
        0, description="MultiDiscrete: one number, or one for each choice"
    )
    spaces: dict[str, "SpaceForm"] = {}


class PolicyMetadata(Record):
    """The metadata inside a policy's ONNX file."""

    schema_version: Literal[1] = 1
    algo: str
    env_id: str
    env_kwargs: dict[str, JsonValue] = {}
    wrappers: tuple[WrapperForm, ...] = Field(
        (), description="around the environment, innermost first; the spaces are the outermost's"
    )
    observation_space: SpaceForm
    action_space: SpaceForm
    digest: str = Field(
        description="SHA-256 over the parameters and normalisation statistics it was made from"
    )
    distribution: Literal[
        "categorical", "multi_categorical", "bernoulli", "gaussian", "squashed_gaussian", "none"
    ] = "none"
    recurrent: bool = False
    action_masks: bool = Field(
        False,
        description="whether it needs the input `action_masks`",
        exclude_if=lambda value: not value,
    )
    versions: dict[str, str] = Field(description="torch, stable_baselines3, gymnasium … at export")
    equality: dict[str, JsonValue] = Field(
        description="how the export was compared with model.predict, and how far off"
    )

    def with_equality(self, equality: dict[str, JsonValue]) -> Self:
        """Add the result of the comparison with `model.predict`."""
        return self.model_copy(update={"equality": equality})


class PolicyRecord(Record):
    """The record of a complete policy at `policies/<t>/<step>.json`.

    It is written after the policy's files, so its arrival says that the policy is complete.
    """

    schema_version: Literal[1] = 1
    experiment: str
    run: str
    trial: str
    attempt: int
    step: int
    final: bool = Field(description="True for the policy at the end of training")
    spec_sha256: str
    digest: str
    policy: Artifact
    parameters: Artifact
    manifest: Artifact = Field(description="the checkpoint that the policy was exported from")
    metadata: PolicyMetadata


def find_misplacement(record: PolicyRecord, key: str) -> str | None:
    """Find what in a record does not follow from the key under which it is stored.

    A trainer's machine runs foreign code and writes records. Without this check a record could name
    the policy of another trial, run or experiment.

    :param key: the record's key
    :return: None if there is nothing.
    """
    trial = TrialId(record.experiment, record.run, record.trial)
    if key != policy_key(trial, record.step, "json"):
        return (
            f"the record belongs to {trial} at step {record.step}; store it under the key of that "
            "trial and step"
        )
    for artifact, suffix in ((record.policy, "onnx"), (record.parameters, "safetensors")):
        if artifact.key != policy_key(trial, record.step, suffix):
            return f"the record names {artifact.key}; a record names the files beside it"
    if not record.manifest.key.startswith(checkpoint_prefix(trial)):
        return f"the record names {record.manifest.key}; a record names a checkpoint of its trial"
    return None
