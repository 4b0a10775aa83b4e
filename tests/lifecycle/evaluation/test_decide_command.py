"""`python -m rl_lifecycle decide` reads two evaluations and prints a decision."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rl_lifecycle.__main__ import main

GATE = {"return_range": [0, 500], "crash_below": 100, "max_pairs": 400}


def write(folder: Path, **documents: Any) -> list[str]:
    """Write the three files and return the arguments that name them."""
    arguments = ["decide"]
    for name, document in {"gate": GATE, **documents}.items():
        path = folder / f"{name}.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        arguments += [f"--{name}", str(path)]
    return arguments


def evaluation(returns: list[float | None], **more: Any) -> dict[str, Any]:
    """Build the keys of `rl_evaluator evaluate`'s output that the gate reads."""
    return {
        "env_id": "CartPole-v1",
        "first_seed": 5,
        "returns": returns,
        "lengths": [1] * len(returns),
        **more,
    }


def test_a_better_candidate_is_promoted(tmp_path: Path) -> None:
    """The command prints one JSON object with the looks taken and no next look."""
    arguments = write(
        tmp_path,
        candidate=evaluation([480.0, 500.0] * 200),
        champion=evaluation([200.0, 300.0] * 200),
    )
    command = [sys.executable, "-m", "rl_lifecycle", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["decision"] == "PROMOTE"
    assert result["next_look"] is None
    assert [look["n"] for look in result["looks"]] == [50, 100, 200, 400][: len(result["looks"])]


def test_without_json_a_person_can_read_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --json the decision comes first, then one line per look."""
    assert (
        main(write(tmp_path, candidate=evaluation([1.0] * 60), champion=evaluation([499.0] * 60)))
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("KEEP: after 50 pairs the candidate is not better")
    assert lines[1].split()[:2] == ["50", "pairs,"]


def test_too_few_pairs_name_the_next_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CONTINUE names the number of pairs for the next look."""
    assert (
        main(
            [
                *write(tmp_path, candidate=evaluation([1.0] * 9), champion=evaluation([9.0] * 9)),
                "--json",
            ]
        )
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert (result["decision"], result["next_look"], result["looks"]) == ("CONTINUE", 50, [])


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ({"candidate": "{"}, "candidate.json: "),
        ({"candidate": []}, "candidate.json: "),
        ({"candidate": {"first_seed": 1}}, "candidate.json: returns: Field required"),
        ({"candidate": evaluation([1.0, "x"])}, "candidate.json: returns.1: "),
        ({"candidate": '{"returns": [NaN]}'}, "candidate.json: returns.0: "),
        (
            {"candidate": evaluation([1.0], first_seed=6)},
            "first_seed of the candidate is 6, of the champion 5",
        ),
        ({"candidate": evaluation([1.0], env_id="A-v0")}, "env_id of the candidate is A-v0"),
        ({"gate": {"crash_below": 1}}, "gate.json: return_range: Field required"),
        ({"gate": {**GATE, "return_range": [5, 5]}}, "return_range must be [lowest, highest]"),
        ({"gate": {**GATE, "alpah": 0.1}}, "gate.json: alpah: Extra inputs"),
        ({"gate": {**GATE, "alpha": 0}}, "gate.json: alpha: "),
        ({"gate": {**GATE, "looks": [5, 5]}}, "looks must be increasing"),
        ({"gate": {**GATE, "looks": [500]}}, "looks must end at max_pairs (400)"),
        ({"gate": {**GATE, "margin": 500}}, "margin must be smaller than the width"),
    ],
    ids=str,
)
def test_bad_input_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], documents: dict[str, Any], message: str
) -> None:
    """The line names the file and the key, without a traceback."""
    assert (
        main(
            write(
                tmp_path,
                **{"candidate": evaluation([1.0]), "champion": evaluation([1.0]), **documents},
            )
        )
        == 2
    )
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file gives its name and no traceback."""
    assert (
        main(["decide", "--candidate", str(tmp_path / "no.json"), "--champion", "x", "--gate", "y"])
        == 2
    )
    assert capsys.readouterr().err.startswith("error: ")
