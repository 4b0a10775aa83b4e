"""An upload for an import is two files of one export, identified without executing them."""

import json
import struct
from pathlib import Path

import pytest

from infra_bootstrap.commands.policy_upload import _check_belong_together
from infra_bootstrap.errors import BadInputError
from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.registry.parameter_files import digest_parameters


def safetensors(value: float) -> bytes:
    """Build a policy of one number, with an optimizer's state."""
    form = {
        "policy/w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        "optimizer/step": {"dtype": "F32", "shape": [], "data_offsets": [4, 8]},
    }
    header = json.dumps(form).encode()
    return struct.pack("<Q", len(header)) + header + struct.pack("<ff", value, 7.0)


def test_parameters_of_another_policy_are_not_uploaded(tmp_path: Path) -> None:
    """Parameters are refused if the policy's metadata name another digest."""
    policy, beside = tmp_path / "p.onnx", tmp_path / "p.safetensors"
    policy.write_bytes(b"onnx " + digest_parameters(safetensors(1.0), "p").encode())
    beside.write_bytes(safetensors(1.0))
    _check_belong_together(policy)
    beside.write_bytes(safetensors(2.0))
    with pytest.raises(BadInputError, match="holds the parameters of another policy than"):
        _check_belong_together(policy)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no parameters at all",
        safetensors(1.0)[:-6],
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 2) + b"{}",
    ],
)
def test_bytes_that_are_no_parameters_are_refused(tmp_path: Path, data: bytes) -> None:
    """Bytes that are not parameters are refused in one line."""
    with pytest.raises(InvalidRecordError) as failed:
        digest_parameters(data, "p.safetensors")
    assert "\n" not in str(failed.value)
    (tmp_path / "p.safetensors").write_bytes(data)
    with pytest.raises(BadInputError, match=r"--policy: .*p\.safetensors"):
        _check_belong_together(tmp_path / "p.onnx")
