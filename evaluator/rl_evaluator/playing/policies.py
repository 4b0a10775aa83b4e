"""Load an ONNX policy: check its bytes, its inputs and outputs, and a first run.

A row of a batch must not depend on the other rows. Otherwise the return of an episode would depend
on the episodes in the other lanes. Most matrix libraries compute rows independently, but not all
do. So each process tests this for each policy and runs the policy row by row if the test fails.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort

from rl_evaluator.errors import InvalidPolicyError, first_line
from rl_evaluator.playing.onnx_files import NotProtobufError, scan
from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.action_masks import check_mask_input, choice_sizes
from rl_lifecycle.evaluation.policies import (
    ACTION,
    ACTION_MASKS,
    LOG_STD,
    LOGITS,
    MAX_BYTES,
    MEAN,
    METADATA_KEY,
    OBSERVATION,
    STATE_IN,
    STATE_OUT,
    PolicyMetadata,
    SpaceForm,
)
from rl_lifecycle.records.record import sha256_hex

#: Batch sizes in which a policy runs, smallest first. The last is the greatest number of lanes.
BATCH_SIZES = (2, 4, 8, 16, 32)

Feeds = dict[str, "np.ndarray[Any, Any]"]

_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
    **{
        f"tensor({name})": np.dtype(name).type
        for name in ("uint8", "int8", "uint16", "int16", "int32", "int64")
    },
}
_PARAMETERS = {
    "categorical": (LOGITS,),
    "multi_categorical": (LOGITS,),
    "bernoulli": (LOGITS,),
    "gaussian": (MEAN, LOG_STD),
    "squashed_gaussian": (MEAN, LOG_STD),
    "none": (),
}
#: What to do about a file that is not a policy of the contract.
_EXPORT = "export it with `python -m rl_trainer export`"
_FOREIGN = {
    b"PK\x03\x04": "a zip file (SB3's model.zip executes code when loaded)",
    b"\x80": "a pickle",
}


@dataclass(frozen=True)
class InputForm:
    """The form of one input of the ONNX graph, without the batch dimension."""

    dtype: Any
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Policy:
    """A policy that passed all checks. Make it with :func:`load_policy`."""

    session: ort.InferenceSession
    metadata: PolicyMetadata
    sha256: str
    inputs: Mapping[str, InputForm]
    batch_sizes: tuple[int, ...]

    def outputs(self, deterministic: bool) -> list[str]:
        """Return the names of the outputs that one step needs.

        A deterministic step needs the action, a stochastic step needs the parameters of the
        distribution. A recurrent policy also needs its next state.
        """
        names = [ACTION] if deterministic else list(_PARAMETERS[self.metadata.distribution])
        return [*names, STATE_OUT] if self.metadata.recurrent else names

    def zeros(self, rows: int) -> Feeds:
        """Return inputs of zeros with a number of rows, by name."""
        return {
            name: np.zeros((rows, *form.shape), form.dtype) for name, form in self.inputs.items()
        }

    def run(self, names: list[str], feeds: Feeds, rows: int) -> "list[np.ndarray[Any, Any]]":
        """Compute outputs for the first rows of the inputs, in a tested batch size.

        :param feeds: inputs with as many rows as the largest batch. Rows after `rows` are computed
            and dropped.
        """
        for size in self.batch_sizes:
            if size >= rows:
                outputs = self.session.run(
                    names, {name: array[:size] for name, array in feeds.items()}
                )
                return [output[:rows] for output in outputs]
        single = [
            self.session.run(names, {name: array[row : row + 1] for name, array in feeds.items()})
            for row in range(rows)
        ]
        return [np.concatenate(parts) for parts in zip(*single, strict=True)]


def load_policy(data: bytes, source: str = "policy") -> Policy:
    """Check and load a policy.

    :param data: the bytes of an ONNX file.
    :param source: the policy's name in errors.
    :raises InvalidPolicyError: if the file is too big, is not ONNX, refers to other files, uses
        operators that are not standard, has other inputs or outputs than its metadata says, or
        computes numbers that are not finite.
    """
    _check_bytes(data, source)
    session = _open(data, source)
    try:
        metadata = _read_metadata(session, source)
        inputs = _check_inputs(session, metadata, source)
        policy = Policy(session, metadata, sha256_hex(data), inputs, ())
        _check_outputs(session, policy, source)
        return Policy(session, metadata, policy.sha256, inputs, _try_out(policy, source))
    except (TypeError, ValueError) as error:  # a name that is not UTF-8, an unknown type
        raise InvalidPolicyError(
            source, f"has a name or a type that is not valid: {first_line(error)}"
        ) from None


def _check_bytes(data: bytes, source: str) -> None:
    if len(data) > MAX_BYTES:
        raise InvalidPolicyError(source, f"has {len(data)} bytes; at most {MAX_BYTES} are allowed")

    for magic, what in _FOREIGN.items():
        if data.startswith(magic):
            raise InvalidPolicyError(source, f"is {what}, not ONNX; {_EXPORT}")

    try:
        contents = scan(data)
    except NotProtobufError as error:
        raise InvalidPolicyError(source, f"is not an ONNX file: {error}; {_EXPORT}") from None

    if contents.external_data:
        raise InvalidPolicyError(source, "keeps tensors in other files; export it as one file")
    if contents.custom_domains:
        raise InvalidPolicyError(
            source,
            f"uses operators of {', '.join(contents.custom_domains)}; only operators of standard "
            "ONNX are allowed",
        )


def _open(data: bytes, source: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.use_deterministic_compute = True
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has many error types, with Exception as their base
        raise InvalidPolicyError(
            source, f"onnxruntime cannot load it: {first_line(error)}"
        ) from None


def _read_metadata(session: ort.InferenceSession, source: str) -> PolicyMetadata:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise InvalidPolicyError(
            source,
            f"has no {METADATA_KEY!r} metadata; {_EXPORT}",
        )
    try:
        metadata = PolicyMetadata.from_json(text.encode(), METADATA_KEY)
    except InvalidRecordError as error:
        raise InvalidPolicyError(
            source, f"its metadata does not have the contract's form: {error}; {_EXPORT}"
        ) from None
    try:
        check_mask_input(metadata, source)
    except InvalidRecordError as error:
        raise InvalidPolicyError(source, error.problem) from None
    return metadata


def _check_inputs(
    session: ort.InferenceSession, metadata: PolicyMetadata, source: str
) -> dict[str, InputForm]:
    space = metadata.observation_space
    wanted: dict[str, SpaceForm | None] = (
        dict(space.spaces) if space.kind == "Dict" else {OBSERVATION: space}
    )
    if metadata.recurrent:
        wanted[STATE_IN] = None
    if metadata.action_masks:
        width = sum(choice_sizes(metadata.action_space))
        wanted[ACTION_MASKS] = SpaceForm(kind="MultiBinary", shape=(width,))
    declared = {node.name: node for node in session.get_inputs()}
    if declared.keys() != wanted.keys():
        raise InvalidPolicyError(
            source,
            f"its inputs are {sorted(declared)}, but its metadata needs {sorted(wanted)}; "
            f"{_EXPORT}",
        )
    return {name: _input_form(declared[name], part, source) for name, part in wanted.items()}


def _input_form(node: Any, space: SpaceForm | None, source: str) -> InputForm:
    if node.type not in _DTYPES:
        raise InvalidPolicyError(
            source, f"its input {node.name} has the type {node.type}, which is not supported"
        )
    if not node.shape or isinstance(node.shape[0], int):
        raise InvalidPolicyError(
            source,
            f"the first dimension of its input {node.name} must be a free batch dimension, but its "
            f"shape is {node.shape}",
        )
    shape = tuple(node.shape[1:])
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise InvalidPolicyError(
            source,
            f"its input {node.name} must have fixed sizes after the batch dimension, but its shape "
            f"is {node.shape}",
        )
    if space is not None and shape != space.shape and not (space.shape == () and shape == (1,)):
        raise InvalidPolicyError(
            source,
            f"its input {node.name} has the shape {list(shape)}, but its metadata says "
            f"{list(space.shape)}",
        )
    return InputForm(_DTYPES[node.type], shape)


def _check_outputs(session: ort.InferenceSession, policy: Policy, source: str) -> None:
    declared = {node.name for node in session.get_outputs()}
    wanted = {*policy.outputs(deterministic=True), *policy.outputs(deterministic=False)}
    if missing := sorted(wanted - declared):
        raise InvalidPolicyError(
            source, f"lacks the outputs {missing} and has {sorted(declared)}; {_EXPORT}"
        )


def _try_out(policy: Policy, source: str) -> tuple[int, ...]:
    """Run a policy on random observations.

    :return: the batch sizes in which rows do not depend on each other.
    """
    names = sorted({*policy.outputs(deterministic=True), *policy.outputs(deterministic=False)})
    feeds = _random_feeds(policy, BATCH_SIZES[-1])
    try:
        whole = policy.session.run(names, feeds)
        _check_answers(policy, dict(zip(names, whole, strict=True)), source)
        return tuple(size for size in BATCH_SIZES if _rows_agree(policy, names, feeds, whole, size))
    except InvalidPolicyError:
        raise
    except Exception as error:  # onnxruntime has many error types, with Exception as their base
        raise InvalidPolicyError(source, f"cannot be run: {first_line(error)}") from None


def _rows_agree(
    policy: Policy, names: list[str], feeds: Feeds, whole: "list[np.ndarray[Any, Any]]", size: int
) -> bool:
    """Compare a smaller batch bit by bit with the same rows of the largest batch, reordered."""
    rows = np.random.default_rng(size).permutation(BATCH_SIZES[-1])[:size]
    part = policy.session.run(
        names, {name: np.ascontiguousarray(array[rows]) for name, array in feeds.items()}
    )
    return all(np.array_equal(few, many[rows]) for few, many in zip(part, whole, strict=True))


def _random_feeds(policy: Policy, rows: int) -> Feeds:
    space, rng = policy.metadata.observation_space, np.random.default_rng(0)
    feeds = policy.zeros(rows)
    for name, part in (space.spaces if space.kind == "Dict" else {OBSERVATION: space}).items():
        feeds[name][...] = _random_values(part, feeds[name].shape, rng)
    if ACTION_MASKS in feeds:
        # The last option of each choice is always allowed, so that no choice is empty.
        feeds[ACTION_MASKS][...] = rng.random(feeds[ACTION_MASKS].shape) < 0.5
        feeds[ACTION_MASKS][:, np.cumsum(choice_sizes(policy.metadata.action_space)) - 1] = True
    return feeds


def _random_values(
    space: SpaceForm, shape: tuple[int, ...], rng: np.random.Generator
) -> "np.ndarray[Any, Any]":
    if space.kind == "Box" and np.issubdtype(np.dtype(space.dtype or "float32"), np.integer):
        return rng.integers(0, 100, shape)
    if space.kind == "Box":
        return rng.uniform(
            _finite_bound(space.low, -1.0, space.shape),
            _finite_bound(space.high, 1.0, space.shape),
            shape,
        )
    if space.kind == "Discrete":
        drawn: np.ndarray[Any, Any] = rng.integers(0, int(np.max(space.n or 1)), shape)
        return drawn + int(np.max(space.start))
    return rng.integers(
        0, 2 if space.kind == "MultiBinary" else np.reshape(space.n or 1, space.shape), shape
    )


def _finite_bound(
    bound: float | tuple[float, ...] | None, default: float, shape: tuple[int, ...]
) -> "np.ndarray[Any, Any]":
    values = np.clip(default if bound is None else bound, -1e3, 1e3)
    return np.asarray(values.reshape(shape) if values.ndim else values)


def _check_answers(policy: Policy, answers: "dict[str, np.ndarray[Any, Any]]", source: str) -> None:
    shape, rows = policy.metadata.action_space.shape, BATCH_SIZES[-1]
    if answers[ACTION].shape != (rows, *shape):
        raise InvalidPolicyError(
            source,
            f"its action has the shape {list(answers[ACTION].shape)}, not [batch, *{list(shape)}]",
        )

    if policy.metadata.recurrent and answers[STATE_OUT].shape != (
        rows,
        *policy.inputs[STATE_IN].shape,
    ):
        raise InvalidPolicyError(source, "its state_out has another shape than its state_in")

    for name, answer in answers.items():
        if not np.isfinite(answer).all():
            raise InvalidPolicyError(
                source,
                f"its output {name} is not finite, because the training diverged or the export is "
                "broken; export another checkpoint",
            )
