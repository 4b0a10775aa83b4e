"""A presigned address does what its signer may at the time of its use, and only until it ends.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html
"""

import time
import urllib.error
import urllib.request
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.local_aws.conftest import LocalAwsUnderTest, allow, policy

SIGNS = Config(signature_version="s3v4", request_checksum_calculation="when_required")


def signer(aws: LocalAwsUnderTest, session: boto3.Session) -> Any:
    """Return a client that signs for a session."""
    return session.client("s3", endpoint_url=aws.endpoint_url, config=SIGNS)


def send(address: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Use an address. :return: status and body."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    method = "GET" if data is None else "PUT"
    request = urllib.request.Request(address, data, sent, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def sign_write(client: Any, bucket: str, key: str, seconds: int = 60) -> str:
    """Sign an address that writes a key, unless it exists."""
    return str(
        client.generate_presigned_url(
            "put_object",
            Params={"Bucket": bucket, "Key": key, "IfNoneMatch": "*"},
            ExpiresIn=seconds,
        )
    )


def test_an_address_reads_what_its_signer_may(aws: LocalAwsUnderTest) -> None:
    """An address can be signed for any key, and works for those that its signer may read."""
    bucket = aws.bucket()
    for key in ("mine/a", "other/a"):
        aws.client("s3").put_object(Bucket=bucket, Key=key, Body=b"data")
    role = aws.role_with(allow("s3:GetObject", f"arn:aws:s3:::{bucket}/mine/*"))
    client = signer(aws, role)

    def read(key: str) -> tuple[int, bytes]:
        asked = {"Bucket": bucket, "Key": key}
        return send(client.generate_presigned_url("get_object", Params=asked))

    assert read("mine/a") == (200, b"data")
    status, body = read("other/a")
    assert (status, b"AccessDenied" in body) == (403, True)


def test_an_address_writes_one_key_once(aws: LocalAwsUnderTest) -> None:
    """The signed condition cannot be left out, and the signed key cannot be changed."""
    bucket = aws.bucket()
    role = aws.role_with(allow("s3:PutObject", f"arn:aws:s3:::{bucket}/mine/*"))
    client = signer(aws, role)
    address = sign_write(client, bucket, "mine/a")
    assert send(address, b"1")[0] == 403
    assert send(address.replace("/mine/a", "/mine/b"), b"1", If_None_Match="*")[0] == 403
    assert send(address, b"1", If_None_Match="*")[0] == 200
    assert send(address, b"2", If_None_Match="*")[0] == 412
    assert send(sign_write(client, bucket, "other/a"), b"1", If_None_Match="*")[0] == 403
    assert aws.client("s3").get_object(Bucket=bucket, Key="mine/a")["Body"].read() == b"1"


def test_an_address_ends(aws: LocalAwsUnderTest) -> None:
    """S3 says that the request has expired."""
    bucket = aws.bucket()
    aws.client("s3").put_object(Bucket=bucket, Key="a", Body=b"data")
    address = signer(aws, aws.session()).generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "a"}, ExpiresIn=1
    )
    time.sleep(2.5)
    status, body = send(address)
    assert (status, b"Request has expired" in body) == (403, True)


def test_a_right_that_was_taken_away_ends_its_addresses(aws: LocalAwsUnderTest) -> None:
    """The signer's rights count when the address is used, not when it was signed."""
    bucket = aws.bucket()
    aws.client("s3").put_object(Bucket=bucket, Key="a", Body=b"data")
    role = aws.role_with(allow("s3:GetObject", f"arn:aws:s3:::{bucket}/*"))
    asked = {"Bucket": bucket, "Key": "a"}
    address = signer(aws, role).generate_presigned_url("get_object", Params=asked)
    assert send(address)[0] == 200
    name = aws.client("sts", role).get_caller_identity()["Arn"].split("/")[1]
    nothing = policy({"Effect": "Deny", "Action": "s3:*", "Resource": "*"})
    aws.client("iam").put_role_policy(RoleName=name, PolicyName="test", PolicyDocument=nothing)
    assert send(address)[0] == 403


@pytest.mark.parametrize("method", ["get_object", "put_object"])
@pytest.mark.parametrize(
    "name", ["x-amz-storage-class", "X-Amz-Tagging", "x-amz-acl", "x-amz-meta-a"]
)
def test_headers_that_were_not_signed_are_refused(
    aws: LocalAwsUnderTest, method: str, name: str
) -> None:
    """The holder of an address cannot add a header that changes what the address does."""
    bucket = aws.bucket()
    aws.client("s3").put_object(Bucket=bucket, Key="a", Body=b"data")
    address = signer(aws, aws.session()).generate_presigned_url(
        method, Params={"Bucket": bucket, "Key": "a"}
    )
    status, body = send(address, b"new" if method == "put_object" else None, **{name: "x"})
    assert status == 403
    assert b"<Code>AccessDenied</Code>" in body
    assert b"There were headers present in the request which were not signed" in body
    assert f"<HeadersNotSigned>{name.lower()}</HeadersNotSigned>".encode() in body
    assert aws.client("s3").get_object(Bucket=bucket, Key="a")["Body"].read() == b"data"


def test_signed_headers_are_accepted(aws: LocalAwsUnderTest) -> None:
    """A header that the signer chose is part of the signature."""
    bucket = aws.bucket()
    aws.client("s3").put_object(Bucket=bucket, Key="a", Body=b"data")
    address = signer(aws, aws.session()).generate_presigned_url(
        "copy_object",
        Params={"Bucket": bucket, "Key": "b", "CopySource": f"{bucket}/a"},
    )
    assert "x-amz-copy-source" in address
    assert send(address, b"", **{"x-amz-copy-source": f"{bucket}/a"})[0] == 200
    assert send(address, b"", **{"x-amz-copy-source": f"{bucket}/c"})[0] == 403
    assert aws.client("s3").get_object(Bucket=bucket, Key="b")["Body"].read() == b"data"
