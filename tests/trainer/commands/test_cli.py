"""The trainer's command line refuses bad input and loads little."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rl_trainer.commands.cli import run
from tests.trainer.conftest import TINY_PPO, Trainer, json_of, merged, trainer_environment


def test_help_loads_neither_torch_nor_boto3() -> None:
    """`--help` is quick and works without torch."""
    program = (
        "import sys\nfrom rl_trainer.commands.cli import run\ntry:\n    run(['train', "
        "'--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'boto3', 'numpy', 'stable_baselines3', 'gymnasium'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, env=trainer_environment()
    )


def test_the_video_option_of_earlier_releases_does_nothing(
    tmp_path: Path, trainer: Trainer, write_spec: Any
) -> None:
    """An earlier release's user data passes `--video`; an existing film is kept."""
    store = tmp_path / "store"
    folder = store / "metrics/tiny/test/seed-0"
    folder.mkdir(parents=True)
    (folder / "000000002048.webp").write_bytes(b"RIFF")
    arguments = ["--spec", str(write_spec(TINY_PPO)), "--store", str(store), "--json", "--video"]
    assert json_of(trainer("train", *arguments))["step"] == 6144
    assert [path.name for path in folder.glob("*.webp")] == ["000000002048.webp"]


@pytest.mark.parametrize("text", ["x", "0", "-1", "1.5", "", "٣", "9" * 5000])
def test_a_wrong_number_of_an_attempt_is_refused(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence says what is allowed, and names no function of the program."""
    with pytest.raises(SystemExit) as left:
        run(["train", "--spec", "a", "--store", "b", f"--attempt={text}"])
    assert left.value.code == 2
    assert (
        f"argument --attempt: must be a whole number of at least 1, not {text!r:.80}; see"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("text", ["x", "[1]", "1", "", "[" * 100_000])
def test_wrong_arguments_of_an_environment_are_refused(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence shows what a JSON object looks like."""
    with pytest.raises(SystemExit) as left:
        run(["export", "--model", "a", "--out", "b", f"--env-kwargs={text}"])
    assert left.value.code == 2
    assert (
        f"argument --env-kwargs: must be a JSON object, such as '{{\"gravity\": -9}}', not "
        f"{text!r:.80}; see" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hyperparameters": {"lerning_rate": 1}},
            "lerning_rate: unknown for ppo (did you mean learning_rate?)",
        ),
        ({"env_id": "no_such_package:Env-v0"}, "env_id: no_such_package:Env-v0 cannot be made"),
        ({"checkpoint_every": 500}, "set checkpoint_every to at least"),
        (
            {"algo": "sac", "hyperparameters": {}},
            "algo: sac cannot handle the actions of CartPole-v1",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, trainer: Trainer, changes: dict[str, Any], message: str
) -> None:
    """Bad input of the whole process; test_bad_input.py has the other cases."""
    document = {**TINY_PPO, **changes} if "algo" in changes else merged(TINY_PPO, **changes)
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(document))  # a spec would be refused when it is frozen
    done = trainer("train", "--spec", str(path), "--store", str(tmp_path / "store"), "--quiet")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert message in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--store", "x"], "--spec"),
        (["train", "--spec", "nowhere.json", "--store", "{tmp}"], "nowhere.json"),
        (["train", "--spec", "x.json", "--store", "gs://bucket"], "must be a directory or s3://"),
        (["digest", "--store", "{tmp}"], "holds no such trial"),
        (["export", "--model", "m.zip", "--out", "p.onnx"], "--trust"),
        (["replay", "--manifest", "m.json"], "m.json"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(
    tmp_path: Path, trainer: Trainer, arguments: list[str], message: str
) -> None:
    """Errors of argparse are one line, too."""
    done = trainer(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert message in done.stderr
