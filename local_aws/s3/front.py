"""Checks in front of the emulator's S3: missing keys, bucket policies and presigned addresses.

A caller that may not list a bucket gets AccessDenied for a missing key, so it does not learn which
keys exist. Malformed bucket policies are refused. So are requests to a presigned address that add
headers which its signer did not sign.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html ("Permissions"),
https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-policy-language-overview.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
("X-Amz-SignedHeaders")
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from local_aws.emulator import seams
from local_aws.faults.calls import error_response
from local_aws.iam.authorization import Authorizer, Denial

Response = tuple[int, dict[str, str], Any]


class S3Front:
    """The handler in front of the emulator's S3."""

    def __init__(self, inner: Any, authorizer: Authorizer) -> None:
        self._inner = inner
        self._authorizer = authorizer

    async def __call__(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, Any],
    ) -> Response:
        """Serve one request. The emulator has authorized the caller before."""
        if method == "PUT" and "policy" in query and (problem := find_problem(body)):
            return error_response("s3", "MalformedPolicy", problem, 400)
        if unsigned := unsigned_headers(headers, query):
            return refuse_unsigned(unsigned)
        answer: Response = await self._inner(method, path, headers, body, query)
        bucket, _, key = path.lstrip("/").partition("/")
        if (
            answer[0] == 404
            and method in ("GET", "HEAD")
            and key
            and (denial := self._may_not_list(headers, bucket))
        ):
            text = (
                f"User: {denial.principal_arn} is not authorized to perform: s3:ListBucket on "
                f'resource: "arn:aws:s3:::{bucket}" '
                "because no identity-based policy allows the s3:ListBucket action"
            )
            return error_response("s3", "AccessDenied", text, 403)
        return answer

    def _may_not_list(self, headers: Mapping[str, str], bucket: str) -> Denial | None:
        """Return the denial if the caller may not list the bucket, else None.

        Requests without credentials are already answered.
        """
        if not seams.module("core.router").extract_access_key_id(headers):
            return None
        return self._authorizer.check(headers, "s3:ListBucket", f"arn:aws:s3:::{bucket}", {})


def unsigned_headers(headers: Mapping[str, str], query: Mapping[str, Any]) -> list[str]:
    """Return the headers of a presigned request that change its meaning and are not signed.

    AWS documents that every `x-amz-*` header must be signed, and documents no exception. Without
    this rule, a holder of an address could let its signer copy another object to the address.

    >>> presigned = {"X-Amz-Signature": ["1"], "X-Amz-SignedHeaders": ["host;x-amz-acl"]}
    >>> unsigned_headers({"host": "b", "x-amz-acl": "private"}, presigned)
    []
    >>> unsigned_headers({"host": "b", "x-amz-copy-source": "/b/k"}, presigned)
    ['x-amz-copy-source']
    """
    parameters = {
        name.lower(): value[0] if isinstance(value, list) else value
        for name, value in query.items()
    }
    if "x-amz-signature" not in parameters:
        return []
    signed = parameters.get("x-amz-signedheaders", "").lower().split(";")
    return sorted(name for name in headers if name.startswith("x-amz-") and name not in signed)


def refuse_unsigned(names: list[str]) -> Response:
    """Return S3's answer to headers that are not signed.

    Source: an answer of S3 in https://github.com/soto-project/soto/issues/374
    """
    status, headers, body = error_response(
        "s3",
        "AccessDenied",
        "There were headers present in the request which were not signed",
        403,
    )
    element = f"</Message><HeadersNotSigned>{escape(', '.join(names))}</HeadersNotSigned>"
    return status, headers, body.replace(b"</Message>", element.encode())


def find_problem(body: bytes) -> str | None:
    """Return what makes a bucket policy malformed, or None.

    >>> find_problem(b"{}")
    'Missing required field Statement'
    >>> find_problem(b'{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "s3:*"}}')
    'Missing required field Resource'
    """
    try:
        policy = json.loads(body)
    except ValueError:
        return "Policies must be valid JSON and the first byte must be '{'"
    found = policy.get("Statement") if isinstance(policy, dict) else None
    for statement in (found if isinstance(found, list) else [found]) or [None]:
        if not isinstance(statement, dict):
            return "Missing required field Statement"
        for name, other in (
            ("Effect", ""),
            ("Principal", "NotPrincipal"),
            ("Action", "NotAction"),
            ("Resource", "NotResource"),
        ):
            if name not in statement and other not in statement:
                return f"Missing required field {name}"
    return None
