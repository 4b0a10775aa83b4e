"""Answer a CheckPolicyRequest: would this policy play where it is meant to? Asked before a pointer
names it.
"""

from rl_evaluator.errors import EvaluatorError, InvalidPolicyError, first_line
from rl_evaluator.playing.environments import environment_maker
from rl_evaluator.playing.evaluation import check_fits, versions
from rl_evaluator.playing.lanes import run_episodes
from rl_evaluator.playing.policies import Policy, load_policy
from rl_evaluator.playing.wheels import use_wheels
from rl_lifecycle.errors import CorruptArtifactError, MissingObjectError
from rl_lifecycle.evaluation.requests import CheckPolicyRequest, EpisodeEnd, PolicyReport
from rl_lifecycle.storage.object_store import ObjectStore, get

#: Lock steps of the episode that is tried. It need not end: whether the policy acts at all is what
#: is asked.
TRIED_STEPS = 200


def answer_check_policy(request: CheckPolicyRequest, store: ObjectStore) -> PolicyReport:
    """Check a policy; what is wrong with it is an answer, not an error.

    :raises StoreUnavailableError: if the store did not answer, so that nothing is known.
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
    """Ask ONNX's own checker as well: onnxruntime forgives some of what other runtimes, and
    consumers, need not.

    :raises InvalidPolicyError: with what it says.
    """
    import onnx  # here: no evaluation waits for it

    try:
        onnx.checker.check_model(data)
    except Exception as error:  # its own, and protobuf's
        raise InvalidPolicyError(
            source, f"ONNX's checker refuses it: {first_line(error)}"
        ) from None


def _try_out(policy: Policy, request: CheckPolicyRequest) -> None:
    """Compare the spaces, then act for a moment. :raises EvaluatorError: with what is wrong."""
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
