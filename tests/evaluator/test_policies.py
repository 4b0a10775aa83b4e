"""What is refused before it runs, and why."""

import io
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from rl_evaluator.errors import InvalidPolicyError
from rl_evaluator.policies import BATCH_SIZES, load_policy
from rl_lifecycle.policies import METADATA_KEY
from tests.evaluator.policy_files import policy_for_id


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data", b"{}")
    return buffer.getvalue()


@pytest.mark.parametrize(("data", "said"), [
    (b"", "holds no graph"),
    (b"not a policy at all", "is no ONNX file"),
    (pickle.dumps({"a": 1}), "is a pickle"),
    (_zip(), "is a zip file"),
    (policy_for_id("CartPole-v1")[:200], "is no ONNX file"),
], ids=["empty", "text", "pickle", "zip", "cut off"])
def test_bytes_that_are_no_onnx_are_refused(data: bytes, said: str) -> None:
    """A foreign file is named for what it is, and never opened by anything that executes code."""
    with pytest.raises(InvalidPolicyError, match=said):
        load_policy(data, "p.onnx")


def _external(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = 1
    tensor.external_data.add(key="location", value="/etc/passwd")


def _custom(model: Any) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.node[1].domain = "com.microsoft"


def _no_metadata(model: Any) -> None:
    del model.metadata_props[:]


def _bad_metadata(model: Any) -> None:
    helper.set_model_props(model, {METADATA_KEY: "{}"})


def _fixed_batch(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def _wrong_width(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5


def _renamed_input(model: Any) -> None:
    model.graph.input[0].name = "observation"
    model.graph.node[0].input[0] = "observation"


def _no_logits(model: Any) -> None:
    del model.graph.output[0]


def _nan(model: Any) -> None:
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(values, np.nan), tensor.name))


@pytest.mark.parametrize(("edit", "said"), [
    (_external, "keeps tensors in other files"),
    (_custom, "uses operators of com.microsoft"),
    (_no_metadata, "has no 'nightshift' metadata"),
    (_bad_metadata, "its metadata is not of the contract's form"),
    (_fixed_batch, "must have a free batch dimension"),
    (_wrong_width, r"takes \[5\], but its metadata says \[4\]"),
    (_renamed_input, r"its inputs are \['observation'\]"),
    (_no_logits, r"lacks the outputs \['logits'\]"),
    (_nan, "is not finite"),
], ids=lambda value: getattr(value, "__name__", ""))
def test_a_spoilt_policy_is_refused_with_the_reason(edit: Any, said: str) -> None:
    """Every way of breaking the contract has its own sentence."""
    with pytest.raises(InvalidPolicyError, match=said):
        load_policy(policy_for_id("CartPole-v1", edit=edit), "p.onnx")


def test_a_policy_that_is_too_big_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is checked before anything reads the bytes."""
    monkeypatch.setattr("rl_evaluator.policies.MAX_BYTES", 100)
    with pytest.raises(InvalidPolicyError, match="at most 100 are allowed"):
        load_policy(policy_for_id("CartPole-v1"))


def test_rows_that_depend_on_each_other_are_run_one_by_one() -> None:
    """A policy that normalises over its batch cannot be run in lanes; it is then run a row at a time."""
    def average_over_batch(model: Any) -> None:
        graph = model.graph
        graph.node.insert(1, helper.make_node("ReduceMean", [graph.node[0].output[0]], ["mean_row"], axes=[0], keepdims=1))
        graph.node.insert(2, helper.make_node("Sub", [graph.node[0].output[0], "mean_row"], ["centred"]))
        graph.node[3].input[0] = "centred"
    policy = load_policy(policy_for_id("CartPole-v1", edit=average_over_batch))
    assert policy.batch_sizes == ()
    feeds = policy.zeros(BATCH_SIZES[-1])
    feeds["obs"][:3] = np.eye(3, 4)
    together = policy.run(["logits"], feeds, 3)[0]
    single = policy.session.run(["logits"], {"obs": feeds["obs"][1:2]})[0]
    assert np.array_equal(together[1:2], single)


def test_ordinary_policies_run_in_whole_batches() -> None:
    """On the machines that the tests run on, an MLP's rows are independent in every batch size."""
    assert load_policy(policy_for_id("Pendulum-v1")).batch_sizes == BATCH_SIZES
