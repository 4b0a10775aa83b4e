"""Write a run's note, which Airflow shows in its list of runs.

Without the connection of :mod:`rl_airflow.infrastructure.airflow_api` no note is written, and no
task fails.
"""

import logging

from airflow.sdk import Context

from rl_airflow.errors import first_line
from rl_airflow.infrastructure.airflow_api import API_ERRORS, AirflowApi, NoApiError, path_of_run

log = logging.getLogger(__name__)

#: Airflow's limit on a note.
MOST_CHARACTERS = 1000


def write_note(context: Context, text: str) -> bool:
    """Write the note of the run.

    :return: whether the note was written. An error is only logged.
    """
    try:
        api = AirflowApi()
        api.call(
            "PATCH",
            path_of_run(context, "?update_mask=note"),
            {"note": text[:MOST_CHARACTERS]},
        )
    except NoApiError as error:
        log.info("%s, so the run gets no note", error)
        return False
    except API_ERRORS as error:
        log.warning("the run's note was not written: %s", first_line(error))
        return False
    return True
