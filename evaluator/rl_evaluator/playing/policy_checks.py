"""Answer a CheckPolicyRequest: check that a policy can play its environment.

The pipeline asks this before a registry pointer names the policy.
"""

from rl_evaluator.errors import EvaluatorError, InvalidPolicyError, first_line
from rl_evaluator.playing.environments import environment_maker
from rl_evaluator.playing.episodes import run_episodes
from rl_evaluator.playing.evaluation import check_fits, versions
from rl_evaluator.playing.policies import Policy, load_policy
from rl_evaluator.playing.wheels import use_wheels
from rl_lifecycle.errors import CorruptArtifactError, MissingObjectError
from rl_lifecycle.evaluation.requests import CheckPolicyRequest, EpisodeEnd, PolicyReport
from rl_lifecycle.storage.object_store import ObjectStore, get

#: Steps of the test episode. The episode need not end, because the test is only whether the policy
#: can act.
TRIED_STEPS = 200


def answer_check_policy(request: CheckPolicyRequest, store: ObjectStore) -> PolicyReport:
    """Check a policy.

    A problem of the policy is part of the answer and does not raise.

    :raises StoreUnavailableError: if the store did not answer, so that the policy is unknown.
    """
    try:
        use_wheels(store, request.requirements)
        data = get(store, request.policy.key, request.policy.sha256).data
        policy = load_policy(data, request.policy.key)
        _check_form(data, request.policy.key)
        _try_out(policy, request)
    except (EvaluatorError, MissingObjectError, CorruptArtifactError) as error:
        return PolicyReport(problem=str(error), versions=versions())
    return PolicyReport(
        digest=policy.metadata.digest,
        sha256=policy.sha256,
        metadata=policy.metadata,
        versions=versions(),
    )


def _check_form(data: bytes, source: str) -> None:
    """Run ONNX's own checker, because onnxruntime accepts files that other runtimes refuse.

    :raises InvalidPolicyError: if the checker finds a problem; the message quotes it.
    """
    import onnx  # imported here, so that no evaluation waits for it

    try:
        onnx.checker.check_model(data)
    except Exception as error:  # ONNX's checker and protobuf may raise any type
        raise InvalidPolicyError(
            source, f"ONNX's checker refuses it: {first_line(error)}"
        ) from None


def _try_out(policy: Policy, request: CheckPolicyRequest) -> None:
    """Compare the spaces, then play some steps.

    :raises EvaluatorError: if the policy cannot play the environment.
    """
    check_fits(policy, request.env_id, request.env_kwargs)
    steps = iter(range(TRIED_STEPS))
    played = run_episodes(
        policy,
        environment_maker(request.env_id, request.env_kwargs),
        range(1),
        keep_going=lambda: next(steps, None) is not None,
    )
    for episode in played.values():
        if episode.end is EpisodeEnd.LOST:
            raise EvaluatorError(f"{request.env_id}: the policy cannot play it: {episode.problem}")
