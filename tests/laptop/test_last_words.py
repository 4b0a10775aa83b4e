"""What is said when a command of Airflow fails."""

from pathlib import Path

from laptop.airflow import MOST_CHARACTERS, last_words

VERDICT = (
    "this run did not do what was required: check_environment failed: experiments/x.yaml: env_id: "
    "its space is a Dict; as a result: "
)


def test_a_failed_night_begins_with_its_first_cause(tmp_path: Path) -> None:
    """The consequences of a night with many trials may be long, so the end is cut off."""
    log = tmp_path / "retrain_x.log"
    log.write_text(
        "AirflowFailException: experiments/x.yaml: env_id: its space is a Dict\n"
        f"rl_airflow.errors.RunIsRedError: {VERDICT}{'seed-0, ' * 200}\n"
        "  File airflow/sdk/execution_time/task_runner.py\n"
    )
    said = last_words(log)
    assert said.startswith(VERDICT)
    assert len(said) == MOST_CHARACTERS


def test_without_an_exception_the_last_error_is_said(tmp_path: Path) -> None:
    """A command that is no task of Airflow fails with other words."""
    log = tmp_path / "airflow-db.log"
    log.write_text("error: no such option\nusage: airflow db\n")
    assert last_words(log) == "error: no such option"
