"""The `rl_evaluator` command prints JSON, and one line for an error."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rl_evaluator.__main__ import main
from rl_lifecycle.evaluation.requests import Shard
from tests.evaluator.policy_files import policy_for_id


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A CartPole policy in a file."""
    path = tmp_path / "p.onnx"
    path.write_bytes(policy_for_id("CartPole-v1"))
    return path


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, with torch made unimportable."""
    code = (
        "import sys, runpy; sys.modules['torch'] = None; sys.argv = ['rl_evaluator', "
        "*sys.argv[1:]]; "
        "runpy.run_module('rl_evaluator', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_evaluate_prints_a_shard_without_torch(policy: Path) -> None:
    """The shard has one return per seed in the Lambda's form, fits one line, and is repeatable."""
    arguments = (
        "evaluate",
        "--policy",
        policy,
        "--env-id",
        "CartPole-v1",
        "--n-episodes",
        5,
        "--first-seed",
        7,
        "--json",
    )
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    shard = Shard.from_json(done.stdout.encode())
    assert (shard.env_id, shard.first_seed, len(shard.returns)) == ("CartPole-v1", 7, 5)
    again = Shard.from_json(run(*arguments).stdout.encode())
    assert again.returns == shard.returns


def test_one_seed_has_one_return(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Any part of a seed range gives the same returns, also with sampled actions."""

    def returns(first: int, n: int) -> list[float]:
        assert (
            main(
                [
                    "evaluate",
                    "--policy",
                    str(policy),
                    "--env-id",
                    "CartPole-v1",
                    "--n-episodes",
                    str(n),
                    "--first-seed",
                    str(first),
                    "--stochastic",
                ]
            )
            == 0
        )
        return list(json.loads(capsys.readouterr().out)["returns"])

    assert returns(10, 40)[5:9] == returns(15, 4)


def test_several_processes_give_the_same_returns(policy: Path) -> None:
    """The number of processes does not change the returns."""
    arguments = (
        "evaluate",
        "--policy",
        policy,
        "--env-id",
        "CartPole-v1",
        "--n-episodes",
        7,
        "--first-seed",
        3,
        "--json",
    )
    alone, together = (
        Shard.from_json(run(*arguments, *more).stdout.encode()) for more in ((), ("--processes", 3))
    )
    assert together.model_copy(update={"seconds": alone.seconds}) == alone


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--policy": "nowhere.onnx"}, "nowhere.onnx: No such file or directory"),
        ({"--env-id": "CartPol-v1"}, "did you mean CartPole-v1"),
        ({"--env-id": "Acrobot-v1"}, "the policy's observation space is Box([4])"),
        ({"--env-kwargs": "{"}, "--env-kwargs is not JSON"),
        ({"--env-kwargs": "[1]"}, "--env-kwargs must be a JSON object"),
        ({"--env-kwargs": '{"wind": 1}'}, "cannot be made: TypeError"),
        ({"--n-episodes": "0"}, "--n-episodes must be at least 1"),
        ({"--first-seed": "-1"}, "the seeds must lie between 0 and"),
        ({"--policy": __file__}, "is not an ONNX file"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    policy: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], message: str
) -> None:
    """Bad input prints one line on stderr, nothing on stdout, and exits with 2."""
    options = {
        "--policy": str(policy),
        "--env-id": "CartPole-v1",
        "--n-episodes": "2",
        "--first-seed": "0",
        **changes,
    }
    assert main(["evaluate", *(part for pair in options.items() for part in pair)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
