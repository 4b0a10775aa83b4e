"""An auth manager whose restricted user may read one DAG only, as FAB's roles allow it."""

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

#: The user who may read :data:`ONLY` and no other DAG.
RESTRICTED = SimpleAuthManagerUser(username="rita", role="viewer")
VIEWER = SimpleAuthManagerUser(username="vera", role="viewer")
ONLY = "retrain_cartpole_ppo"


class RestrictedAuthManager(SimpleAuthManager):
    """Airflow's own auth manager for development, and one user with fewer rights."""

    def is_authorized_dag(  # type: ignore[override]  # the base has more precise types
        self, *, user: SimpleAuthManagerUser, details: DagDetails | None = None, **kwargs: Any
    ) -> bool:
        """Refuse all DAGs but one to the restricted user, who may list DAGs as with FAB."""
        named = details.id if details else None
        if user.username == RESTRICTED.username and named not in (None, ONLY):
            return False
        return super().is_authorized_dag(user=user, details=details, **kwargs)
