"""Experiment files during parsing, and the meaning of a filled form."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rl_airflow.dag_builders.params import retraining_params
from rl_airflow.infrastructure.form_values import (
    NEW_LINEAGE,
    OVERRIDES,
    environment_of,
    read_overrides,
)
from rl_airflow.run import spec_operator
from rl_airflow.run.experiment_files import (
    list_experiment_files,
    read_experiment_file,
    read_experiment_files,
)
from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import freeze_spec
from tests.plugins.airflow_home import ROOT
from tests.plugins.worlds import EXPERIMENT, START

GOOD = (ROOT / "experiments" / "cartpole_ppo.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (
            "a.yaml",
            GOOD.replace("algo: ppo", "algo: pppo"),
            "experiments/a.yaml: algo: unknown algorithm 'pppo' (did you mean ppo?)",
        ),
        (
            "a.yaml",
            GOOD.replace("trials: 2", "trials: 0"),
            "experiments/a.yaml: trials: input should be greater than or equal to 1",
        ),
        (
            "a.yaml",
            GOOD.replace("budget_usd: 2", "budget_usd: -2"),
            "experiments/a.yaml: compute.budget_usd: input should be greater than 0",
        ),
        (
            "a.yaml",
            GOOD.replace("  return_range: [0, 500]", ""),
            "experiments/a.yaml: evaluation.return_range: is missing",
        ),
        (
            "a.yaml",
            GOOD.replace("CartPole-v1  ", "Acme-v1  "),
            "experiments/a.yaml: hyperparameters: no tuned values",
        ),
        (
            "a.yaml",
            GOOD.replace("hyperparameters: zoo", "hyperparameters: {n_step: 256}"),
            "experiments/a.yaml: hyperparameters.n_step: unknown for ppo (did you mean n_steps?)",
        ),
        (
            "a.yaml",
            GOOD + "shards: 3\n",
            "experiments/a.yaml: shards: 3 does not divide hyperparameters.n_envs = 8",
        ),
        (
            "a.yaml",
            GOOD.replace('schedule: "0 2 * * *"', "schedule: every night"),
            "experiments/a.yaml: schedule: 'every night' is not a cron expression such as",
        ),
        (
            "a.yaml",
            GOOD + '\nreplay_schedule: "0 25 * * *"\n',
            "experiments/a.yaml: replay_schedule: '0 25 * * *' is not a cron expression such as",
        ),
        (
            "a.yaml",
            GOOD.replace('"0 2 * * *"', '"0 2 30 2 *"'),
            "experiments/a.yaml: schedule: '0 2 30 2 *' is not a cron expression such as",
        ),
        ("a.yaml", "a: b: c", "experiments/a.yaml: line 1: is not YAML"),
        ("a.yaml", "- a", "experiments/a.yaml: must hold a mapping"),
        (
            "a.yaml",
            GOOD + "\nseed: 1\nseed: 2\n",
            "experiments/a.yaml: seed: is written twice (again in line ",
        ),
        ("a.yaml", "x: !!python/object/apply:os.system ['true']", "experiments/a.yaml: "),
    ],
)
def test_a_files_mistake_is_reported_in_one_line(
    tmp_path: Path, name: str, text: str, problem: str
) -> None:
    """The line has file, key and allowed values, and no code in a file is executed."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / name).write_text(text)
    read = read_experiment_file(folder / name)
    assert read.experiment is None
    assert read.problem.startswith(problem)
    assert "\n" not in read.problem


def test_an_unreadable_file_is_reported_too(tmp_path: Path) -> None:
    """No file raises while Airflow parses DAGs."""
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder.yaml").mkdir()
    files = list(read_experiment_files(tmp_path))
    assert len(files) == 2
    assert all(file.experiment is None and file.problem for file in files)


def test_no_folder_is_no_experiment(tmp_path: Path) -> None:
    """A project without experiments can be parsed."""
    assert list_experiment_files(tmp_path / "nothing") == []


def test_our_own_experiments_are_good_and_their_segments_long_enough() -> None:
    """Each segment of our experiments holds ten of the longest episodes."""
    from rl_lifecycle.experiment.hyperparameters import check_segment

    longest = {"CartPole-v1": 500, "LunarLander-v3": 1000}
    files = list(read_experiment_files(ROOT / "experiments"))
    assert files
    for file in files:
        assert file.experiment is not None, file.problem
        spec = freeze_spec(file.experiment, run_id="r", created_at=START)
        check_segment(
            spec.experiment,
            spec.segment_timesteps,
            spec.hyperparameters,
            longest[file.experiment.env_id],
        )


def test_the_form_shows_what_the_file_says_and_each_field_overrides_its_key() -> None:
    """An untouched form changes nothing."""
    experiment = read_experiment({**EXPERIMENT, "gate": {"alpha": 0.01}}, "e")
    filled = {name: param.value for name, param in retraining_params(experiment).items()}
    overrides = read_overrides(filled, {}, "run")
    assert set(overrides) == set(OVERRIDES.values())
    spec = freeze_spec(experiment, run_id="r", created_at=START, overrides=overrides)
    assert spec.experiment == experiment
    changed = freeze_spec(
        experiment,
        run_id="r",
        created_at=START,
        overrides={**overrides, "compute.budget_usd": 3, "trials": 5},
    )
    assert (changed.experiment.compute.budget_usd, len(changed.trials)) == (3, 5)


def test_the_form_may_leave_the_champion_out() -> None:
    """The field is no setting of the experiment, and the spec says who asked for it."""
    experiment = read_experiment(EXPERIMENT, "e")
    filled = {name: param.value for name, param in retraining_params(experiment).items()}
    assert filled[NEW_LINEAGE] is False
    assert NEW_LINEAGE not in read_overrides(filled, {NEW_LINEAGE: True}, "run")
    run = SimpleNamespace(triggering_user_name="ada")
    context: Any = {"params": {NEW_LINEAGE: True}, "dag_run": run}
    assert spec_operator._new_lineage(context).startswith("ada asked to judge without the champion")
    assert spec_operator._new_lineage({**context, "params": filled}) == ""


def test_an_unknown_field_is_refused_and_not_ignored() -> None:
    """A typo in --conf is an error, because it would train the wrong thing."""
    with pytest.raises(
        InvalidExperimentError,
        match="total_timestep: is not a field of this DAG's form; allowed: total_timesteps",
    ):
        read_overrides({}, {"total_timestep": 5}, "run of e")


def test_the_environment_is_the_forms_then_the_variables_then_dev(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The environment is resolved when a task runs, not when DAGs are parsed."""
    from airflow.sdk import Variable

    set_to: dict[str, Any] = {}
    monkeypatch.setattr(Variable, "get", lambda key, default=None: set_to.get(key, default))
    assert environment_of({"environment": ""}) == "dev"
    set_to["nightshift_environment"] = "prod"
    assert environment_of({"environment": ""}) == "prod"
    assert environment_of({"environment": "mine"}) == "mine"
