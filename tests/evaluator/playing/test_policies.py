"""Bad policy files are refused before they run, with the reason."""

import io
import pickle
import re
import zipfile
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from rl_evaluator.errors import InvalidPolicyError
from rl_evaluator.playing.policies import BATCH_SIZES, load_policy
from rl_evaluator.playing.policy_checks import answer_check_policy
from rl_lifecycle.evaluation.policies import METADATA_KEY
from rl_lifecycle.evaluation.requests import CheckPolicyRequest
from rl_lifecycle.storage.directory_store import DirectoryStore
from tests.evaluator.policy_files import policy_for_id
from tests.evaluator.stored_runs import store_artifact

GOOD = policy_for_id("CartPole-v1")


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data", b"{}")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no graph"),
        (b"not a policy at all", "is not an ONNX file"),
        (pickle.dumps({"a": 1}), "is a pickle"),
        (_zip(), "is a zip file"),
        (policy_for_id("CartPole-v1")[:200], "is not an ONNX file"),
    ],
    ids=["empty", "text", "pickle", "zip", "cut off"],
)
def test_bytes_that_are_no_onnx_are_refused(data: bytes, message: str) -> None:
    """Bytes that are not ONNX are refused by name and are never unpickled or executed."""
    with pytest.raises(InvalidPolicyError, match=message):
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


def _odd_type(model: Any) -> None:
    entry = model.metadata_props[0]
    entry.value = entry.value.replace('"float32"', '"flowt32"')


def _no_logits(model: Any) -> None:
    del model.graph.output[0]


def _nan(model: Any) -> None:
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(values, np.nan), tensor.name))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_external, "keeps tensors in other files"),
        (_custom, "uses operators of com.microsoft"),
        (_no_metadata, "has no 'nightshift' metadata"),
        (_bad_metadata, "its metadata does not have the contract's form"),
        (_fixed_batch, "the first dimension of its input obs must be a free batch dimension"),
        (_wrong_width, r"has the shape \[5\], but its metadata says \[4\]"),
        (_renamed_input, r"its inputs are \['observation'\]"),
        (
            _odd_type,
            "a type that is not valid: TypeError: data type 'flowt32' not understood",
        ),
        (_no_logits, r"lacks the outputs \['logits'\]"),
        (_nan, "is not finite"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_invalid_policy_is_refused_with_the_reason(edit: Any, message: str) -> None:
    """Each violation of the policy contract has its own message."""
    with pytest.raises(InvalidPolicyError, match=message):
        load_policy(policy_for_id("CartPole-v1", edit=edit), "p.onnx")


def test_a_policy_that_is_too_big_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size limit is checked before the bytes are parsed."""
    monkeypatch.setattr("rl_evaluator.playing.policies.MAX_BYTES", 100)
    with pytest.raises(InvalidPolicyError, match="at most 100 are allowed"):
        load_policy(policy_for_id("CartPole-v1"))


def test_rows_that_depend_on_each_other_are_run_one_by_one() -> None:
    """A policy that normalises over its batch is run one row at a time."""

    def average_over_batch(model: Any) -> None:
        graph = model.graph
        graph.node.insert(
            1,
            helper.make_node(
                "ReduceMean", [graph.node[0].output[0]], ["mean_row"], axes=[0], keepdims=1
            ),
        )
        graph.node.insert(
            2, helper.make_node("Sub", [graph.node[0].output[0], "mean_row"], ["centred"])
        )
        graph.node[3].input[0] = "centred"

    policy = load_policy(policy_for_id("CartPole-v1", edit=average_over_batch))
    assert policy.batch_sizes == ()
    feeds = policy.zeros(BATCH_SIZES[-1])
    feeds["obs"][:3] = np.eye(3, 4)
    together = policy.run(["logits"], feeds, 3)[0]
    single = policy.session.run(["logits"], {"obs": feeds["obs"][1:2]})[0]
    assert np.array_equal(together[1:2], single)


def test_ordinary_policies_run_in_whole_batches() -> None:
    """An MLP's rows are independent in every batch size on the test machine."""
    assert load_policy(policy_for_id("Pendulum-v1")).batch_sizes == BATCH_SIZES


def _nodes_backwards(model: Any) -> None:
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))


def _no_name(model: Any) -> None:
    model.graph.name = ""


def _output_without_type(model: Any) -> None:
    model.graph.output[0].ClearField("type")


def _weight_twice(model: Any) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def _weight_cut(model: Any) -> None:
    model.graph.initializer[1].raw_data = model.graph.initializer[1].raw_data[:-4]


def _weight_missing(model: Any) -> None:
    del model.graph.initializer[0]


def _unknown_operator(model: Any) -> None:
    model.graph.node[0].op_type = "Frobnicate"


def _unknown_attribute(model: Any) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("nonsense", 1))


def _cycle(model: Any) -> None:
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


def _same_output_twice(model: Any) -> None:
    model.graph.node[1].output[0] = model.graph.node[0].output[0]


def _no_opset(model: Any) -> None:
    del model.opset_import[:]


@pytest.mark.parametrize(
    "edit",
    [
        _nodes_backwards,
        _no_name,
        _output_without_type,
        _weight_twice,
        _weight_cut,
        _weight_missing,
        _unknown_operator,
        _unknown_attribute,
        _cycle,
        _same_output_twice,
        _no_opset,
    ],
    ids=lambda edit: edit.__name__,
)
def test_a_policy_must_pass_the_onnx_checker_before_promotion(
    store: DirectoryStore, edit: Any
) -> None:
    """A file that onnxruntime accepts is refused for service if ONNX's own checker rejects it."""
    data = policy_for_id("CartPole-v1", edit=edit)
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(data)
    request = CheckPolicyRequest(policy=store_artifact(store, "p.onnx", data), env_id="CartPole-v1")
    assert re.search(
        "onnxruntime cannot load it|ONNX's checker refuses it",
        answer_check_policy(request, store).problem,
    )


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_file_with_damaged_bytes_is_refused_or_plays(drawn: st.DataObject) -> None:
    """A file with flipped bits raises the documented error or gives finite numbers."""
    data = bytearray(GOOD)
    for at in drawn.draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=4)):
        data[at] ^= 1 << drawn.draw(st.integers(0, 7))
    try:
        policy = load_policy(bytes(data))
    except InvalidPolicyError:
        return
    assert all(
        np.isfinite(output).all()
        for output in policy.run(["logits"], policy.zeros(BATCH_SIZES[-1]), 1)
    )
