"""The operator that asks a person which version to put back into service.

The DAG's form cannot list the versions: it is built while the DAG is parsed, without network.
"""

import logging
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from rl_airflow.infrastructure.deployed_environment import find_environment
from rl_airflow.infrastructure.form_values import environment_of
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.registry.approval_operator import name_of
from rl_airflow.registry.champion_operators import (
    describe_history,
    describe_version,
    find_readable_champion,
)
from rl_airflow.run.notes import keep_note
from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.registry.contents import (
    VersionManifest,
    check_pointer,
    find_pointer_mark,
    get_manifest,
    list_versions,
    refuse_lost_pointer,
)
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.storage.s3_store import S3Store

log = logging.getLogger(__name__)

#: The option that changes nothing. It is also the default without an answer.
NONE_OF_THEM = "None of them"
ANSWER_WITHIN = timedelta(hours=1)
#: The number of newest versions in the question. The form can name an older one.
MOST_OPTIONS = 12
#: Each option ends with the mark of the pointer that the question showed.
SHOWN = re.compile(r"\(pointer (\w+)\)$")


class AskForVersionOperator(HITLOperator):
    """Ask which version to put back into service.

    It does not ask if the form names a version, or only wants a list. The options are the complete
    versions, newest first, without the one in service. A person answers in the UI (Required
    Actions) or over REST within an hour. Without an answer nothing changes. An option names the
    version that it replaces, because the champion can change while the question waits. A retry asks
    again; a clear deletes the answer.

    :param aws_conn_id: a connection of the Airflow worker. None: `nightshift_airflow` if it is
        defined, else the worker's own role.
    """

    def __init__(self, *, aws_conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(
            subject="Which version of {{ params.experiment }} shall go into service?",
            options=[NONE_OF_THEM],
            defaults=NONE_OF_THEM,
            response_timeout=ANSWER_WITHIN,
            **kwargs,
        )
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Any:
        """Ask, if the version is not known yet.
        :return: `version`. If a person was asked, also `person` and `pointer`, which is the mark
            of the pointer that the question showed.
        """
        params = context["params"]
        if params.get("version") or params.get("only_list"):
            version = params.get("version")
            return {
                "version": int(version) if version else None,
                "person": None,
            }  # a form's 1.0 is an integer to JSON Schema
        environment, region = environment_of(params), params.get("region_name") or None
        session = RoleSession(None, environment, self.aws_conn_id, region)
        store = S3Store(session.client("s3"), find_environment(environment, region).bucket)
        try:
            choices = describe_choices(store, params["experiment"])
            self.options = [*choices.options, NONE_OF_THEM]
            history = describe_history(store, params["experiment"])
        except AirflowSkipException as nothing:
            keep_note(context, str(nothing))
            raise
        except LifecycleError as error:
            raise AirflowFailException(str(error)) from None
        self.body = _question(choices, history, params["reason"])
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Take the answer. Airflow's API has already compared it with the stored options, which
        this process does not know.
        """
        self.options = [*self.options, *event.get("chosen_options", ())]
        answer = super().execute_complete(context, event)
        user, chosen = answer["responded_by_user"], answer["chosen_options"][0]
        if not user or chosen == NONE_OF_THEM:
            log.info(
                "%s: nothing is moved",
                "no version was chosen" if user else "no person answered within an hour",
            )
            return {"version": None, "person": name_of(user) if user else None}
        shown = SHOWN.search(chosen)
        return {
            "version": int(chosen.partition(":")[0]),
            "person": name_of(user),
            "pointer": shown[1] if shown else "unknown",
        }


class Choices(NamedTuple):
    """The versions that can be put back, newest first.

    :param options: a short label of each version. Airflow draws few options as buttons in one row.
    :param details: a line about each version.
    :param replaced: what goes out of service.
    """

    options: list[str]
    details: list[str]
    replaced: str


def describe_choices(store: ObjectStore, experiment: str) -> Choices:
    """Find the versions that can be put back, and what one of them would replace.

    The mark is read first. If the pointer moves while the rest is read, the mark is old, and no
    answer with it counts.

    :raises AirflowSkipException: if there is no version except the one in service.
    :raises AirflowFailException: if there is no version at all.
    :raises LostPointerError: if the pointer is gone although there is a history.
    """
    mark = find_pointer_mark(store, experiment)
    if mark is None:
        refuse_lost_pointer(store, experiment)
    in_service = _find_version_in_service(store, experiment)
    replaced = f"version {in_service}" if in_service else "a champion that was edited by hand"
    choices = _find_choices(store, experiment, in_service)
    return Choices(
        options=[
            f"{one.version}: {one.created_at:%Y-%m-%d %H:%M} UTC, {one.trial} (pointer {mark})"
            for one in choices
        ],
        details=[describe_version(one) for one in choices],
        replaced=replaced,
    )


def _find_choices(
    store: ObjectStore, experiment: str, in_service: int | None
) -> Sequence[VersionManifest]:
    versions = [
        manifest for manifest in list_versions(store, experiment) if manifest.version != in_service
    ]
    if not versions and in_service:
        raise AirflowSkipException(
            f"{experiment} has no version but version {in_service}, which is in service: there is "
            "nothing to put back"
        )
    if not versions:
        raise AirflowFailException(
            f"{experiment} has no version that is whole: there is nothing to put back"
        )
    return sorted(versions, key=lambda manifest: -manifest.version)[:MOST_OPTIONS]


def _find_version_in_service(store: ObjectStore, experiment: str) -> int | None:
    """Find the version in service. If the pointer was edited, the result is None, because a
    rollback may then choose any version.
    """
    champion = find_readable_champion(store, experiment)
    if champion is None:
        return None
    pointer = champion[0]
    try:
        check_pointer(
            store,
            experiment,
            pointer,
            get_manifest(store, experiment, pointer.version, pointer.manifest_sha256),
        )
    except LifecycleError as error:
        log.warning("%s", error)
        return None
    return pointer.version if pointer.entry.to_version == pointer.version else None


def _question(choices: Choices, history: str, reason: str) -> str:
    """Return the question as Markdown: what goes out of service, the versions, the history, the
    reason, and what happens without an answer. Text that people wrote is quoted.
    """
    title, *moves = history.splitlines()
    why = "\n".join(f"> {line}" for line in reason.splitlines())
    return (
        f"Your choice replaces **{choices.replaced}**.\n\n{_bullets(choices.details)}\n\n"
        f"{title}\n\n{_bullets(moves)}\n\nThe reason that was given:\n\n{why}\n\n"
        "No answer within an hour means no: nothing is moved."
    )


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- `{line.strip().replace('`', chr(39))}`" for line in lines)
