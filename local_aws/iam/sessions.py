"""Temporary credentials that AWS's services give to instances, functions and container tasks.

A service can assume a role only if the role's trust policy names the service. This is checked at
every renewal, because the trust policy can change while a machine runs.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import json
import secrets
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from local_aws.emulator import seams

LIFETIME_S = 3600
RENEW_BEFORE_S = 300
"""EC2 shows new credentials at least five minutes before the old ones expire:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html"""


class TrustError(PermissionError):
    """The role's trust policy does not let this service assume it."""


class RoleMissingError(LookupError):
    """The account has no such role."""


@dataclass(frozen=True)
class Credentials:
    """One set of temporary credentials."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expires_at: dt.datetime

    def is_fresh(self, at: float) -> bool:
        """Say whether the credentials need no renewal at a time (`time.time`)."""
        return self.expires_at.timestamp() - at > RENEW_BEFORE_S


class Issuer:
    """Issues sessions of roles to services.

    :ivar lifetime_s: called for each new session; returns how long it lives, in seconds.
    """

    def __init__(self, account_id: str, region: str) -> None:
        self.account_id = account_id
        self.region = region
        self.lifetime_s: Callable[[], float] = lambda: LIFETIME_S
        self._holders: weakref.WeakSet[Renewing] = weakref.WeakSet()

    def get_role(self, name: str) -> dict[str, Any]:
        """Return the record of a role.

        :raises RoleMissingError: if the account has no such role.
        """
        role = seams.module("services.iam")._roles.get_scoped(self.account_id, None, name)
        if role is None:
            raise RoleMissingError(f"the account has no role {name}")
        return dict(role)

    def issue(
        self, role_name: str, session_name: str, service: str, keys: dict[str, str] | None = None
    ) -> Credentials:
        """Return new credentials of a role for a service.

        :param service: for example `ec2.amazonaws.com`.
        :param keys: condition keys that the trust policy may refer to, such as `aws:SourceAccount`.
        :raises TrustError: if the trust policy does not allow it.
        :raises RoleMissingError: if there is no such role.
        """
        role = self.get_role(role_name)
        if not self.trusts(role, service, keys or {}):
            raise TrustError(
                f"{service} is not allowed to assume {role['Arn']}: its trust policy does not "
                "name it"
            )
        return self._register(role, session_name)

    def trusts(self, role: dict[str, Any], service: str, keys: dict[str, str]) -> bool:
        """Evaluate a role's trust policy for a service. An explicit denial wins."""
        evaluator = seams.module("core.iam_evaluator")
        document = role["AssumeRolePolicyDocument"]
        document = json.loads(document) if isinstance(document, str) else document
        statements = (
            document["Statement"]
            if isinstance(document["Statement"], list)
            else [document["Statement"]]
        )
        named = [s for s in statements if names_service(s.get("Principal"), service)]
        context = evaluator.EvalContext(
            principal_arn=service,
            principal_type="Service",
            principal_account=self.account_id,
            action="sts:AssumeRole",
            resource_arn=role["Arn"],
            region=self.region,
            service_context={
                "aws:sourceaccount": self.account_id,
                **{k.lower(): v for k, v in keys.items()},
            },
        )
        return bool(
            evaluator.evaluate(
                context, [evaluator.parse_policy_document({"Statement": named})]
            ).decision
            == "Allow"
        )

    def holder(
        self, role_name: str, session_name: str, service: str, keys: dict[str, str] | None = None
    ) -> Renewing:
        """Return credentials that renew themselves."""
        made = Renewing(self, role_name, session_name, service, keys)
        self._holders.add(made)
        return made

    def expire(self, role_pattern: str) -> int:
        """End every session of the matching roles now, and return the number of ended sessions.

        Holders of credentials get new ones when they ask again.
        """
        ended = 0
        for session in seams.module("services.sts")._sessions.values():
            role = str(session.get("Arn", "")).partition(":assumed-role/")[2].split("/")[0]
            if role and fnmatch.fnmatchcase(role, role_pattern):
                session["Expiration"] = time.time() - 1
                ended += 1
        for holder in self._holders:
            if fnmatch.fnmatchcase(holder.role_name, role_pattern):
                holder.forget()
        return ended

    def _register(self, role: dict[str, Any], session_name: str) -> Credentials:
        """Create a session and make it known to the emulator."""
        expires = time.time() + self.lifetime_s()
        made = Credentials(
            "ASIA" + secrets.token_hex(8).upper(),
            secrets.token_urlsafe(30),
            "IQoJb3JpZ2lu" + secrets.token_urlsafe(96),
            dt.datetime.fromtimestamp(expires, dt.UTC).replace(microsecond=0),
        )
        arn = f"arn:aws:sts::{self.account_id}:assumed-role/{role['RoleName']}/{session_name}"
        seams.module("services.sts").register_session(
            made.access_key_id,
            {
                "Arn": arn,
                "UserId": f"{role['RoleId']}:{session_name}",
                "AccountId": self.account_id,
                "SecretAccessKey": made.secret_access_key,
                "SessionToken": made.session_token,
                "Expiration": made.expires_at.timestamp(),
                "PrincipalType": "AssumedRole",
                "SessionTags": [],
            },
        )
        return made


class Renewing:
    """Credentials that stay the same until shortly before they expire, and then are replaced."""

    def __init__(
        self,
        issuer: Issuer,
        role_name: str,
        session_name: str,
        service: str,
        keys: dict[str, str] | None = None,
    ) -> None:
        self._issuer = issuer
        self._arguments = (role_name, session_name, service, keys)
        self._current: Credentials | None = None
        self.role_name = role_name

    def get(self) -> Credentials:
        """Return credentials that need no renewal yet (see :meth:`Credentials.is_fresh`).

        If new credentials live shorter than :data:`RENEW_BEFORE_S`, each call issues new ones.
        """
        if self._current is None or not self._current.is_fresh(time.time()):
            self._current = self._issuer.issue(*self._arguments)
        return self._current

    def forget(self) -> None:
        """Forget the credentials, so that the next call issues new ones."""
        self._current = None


def names_service(principal: Any, service: str) -> bool:
    """Say whether a statement's principal names a service.

    >>> names_service({"Service": ["a.amazonaws.com", "b.amazonaws.com"]}, "b.amazonaws.com")
    True
    """
    if not isinstance(principal, dict):
        return bool(principal == "*")
    named = principal.get("Service", [])
    return service in ([named] if isinstance(named, str) else named)


def as_document(credentials: Credentials) -> dict[str, str]:
    """Return credentials in the form of the instance metadata and container endpoints."""
    stamp = "%Y-%m-%dT%H:%M:%SZ"
    return {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "LastUpdated": dt.datetime.now(dt.UTC).strftime(stamp),
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "Token": credentials.session_token,
        "Expiration": credentials.expires_at.strftime(stamp),
    }
