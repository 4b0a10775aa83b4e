"""Each look requests the episodes that the gate needs."""

from rl_airflow.evaluation.judge_operator import candidate_evaluation, jobs_of_look
from rl_lifecycle.evaluation.requests import scenario_evaluation
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import Artifact, Champion, Spec, freeze_spec
from tests.lifecycle.conftest import NIGHT

CANDIDATE = Artifact(key="policies/c.onnx", sha256="c" * 64)
CHAMPION = Champion(
    version=1,
    etag="e",
    digest="d",
    policy=Artifact(key="registry/p.onnx", sha256="d" * 64),
    parameters=Artifact(key="registry/p.safetensors", sha256="e" * 64),
)


def _spec(scenarios: dict[str, object]) -> Spec:
    evaluation = {"return_range": [0, 500], "crash_below": 100, "scenarios": scenarios}
    experiment = read_experiment(
        {"env_id": "CartPole-v1", "algo": "ppo", "total_timesteps": 1, "evaluation": evaluation},
        "x",
    )
    return freeze_spec(experiment, run_id="r", created_at=NIGHT)


def test_both_policies_play_the_same_seeds_in_every_scenario() -> None:
    """The crash guard compares both policies in each scenario."""
    spec = _spec({"low sun": {"env_kwargs": {"sutton_barto_reward": True}}})
    jobs = jobs_of_look(spec, CANDIDATE, CHAMPION, 40)
    assert [(job.name, job.policy.sha256[0], job.env_kwargs) for job in jobs] == [
        ("gate-candidate-cccccccccccc", "c", {}),
        (
            scenario_evaluation("gate-candidate-cccccccccccc", "low sun"),
            "c",
            {"sutton_barto_reward": True},
        ),
        ("gate-champion", "d", {}),
        (scenario_evaluation("gate-champion", "low sun"), "d", {"sutton_barto_reward": True}),
    ]
    assert {(job.first_seed, job.n_episodes) for job in jobs} == {(spec.gate_first_seed, 40)}


def test_a_first_champion_plays_alone_in_the_experiments_own_environment() -> None:
    """A first champion has no rival for the crash guard."""
    jobs = jobs_of_look(_spec({"low sun": {}}), CANDIDATE, None, 40)
    assert [job.name for job in jobs] == ["gate-candidate-cccccccccccc"]


def test_another_candidate_of_the_same_run_has_shards_of_its_own() -> None:
    """A cleared run may select another trial, whose shards have their own name."""
    other = Artifact(key="policies/o.onnx", sha256="0" * 64)
    assert candidate_evaluation(other) != candidate_evaluation(CANDIDATE)
