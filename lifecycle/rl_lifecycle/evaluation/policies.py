"""The ONNX policy: what trainer, evaluator and any consumer agree on.

Inputs are named as the observation's keys (`obs` when it is not a dict), batch first, of the
space's own type. Outputs: `action`, the deterministic action as the environment takes it, then the
distribution's parameters: `logits` (discrete kinds) or `mean` and `log_std` (Gaussian). A squashed
Gaussian's draws go through tanh and from [-1, 1] to the action space; a plain one's are clipped to
it. Policies that remember (an LSTM, stacked frames) add `state_in` and `state_out`, zeros at an
episode's beginning. Normalisation, scaling and clipping are inside. No external data, no custom
operator, at most :data:`MAX_BYTES`. Metadata is JSON under :data:`METADATA_KEY`.
"""

from typing import Literal, Self

from pydantic import Field, JsonValue

from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.experiment.wrappers import WrapperForm
from rl_lifecycle.records.record import Record

METADATA_KEY = "nightshift"
OBSERVATION = "obs"
ACTION = "action"
LOGITS = "logits"
MEAN = "mean"
LOG_STD = "log_std"
STATE_IN = "state_in"
STATE_OUT = "state_out"
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
    start: int = 0
    spaces: dict[str, "SpaceForm"] = {}


class PolicyMetadata(Record):
    """What a policy says of itself, inside the ONNX file."""

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
    versions: dict[str, str] = Field(description="torch, stable_baselines3, gymnasium … at export")
    equality: dict[str, JsonValue] = Field(
        description="how the export was compared with model.predict, and how far off"
    )

    def with_equality(self, equality: dict[str, JsonValue]) -> Self:
        """Add the result of the comparison with `model.predict`."""
        return self.model_copy(update={"equality": equality})


class PolicyRecord(Record):
    """`policies/<t>/<step>.json`: written last, so its arrival says that the policy is complete."""

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
