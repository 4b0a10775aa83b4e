"""Applies the properties of templates that the emulator's provisioners drop.

They are applied through the services' own APIs, after the provisioner has run. They were found by
reading back every property of a template; `tests/local_aws` does that for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from local_aws.ec2.service import keep_of_endpoint
from local_aws.emulator import inproc, seams

Properties = Mapping[str, Any]
Attributes = dict[str, Any]
Completion = Callable[[str, Properties, str], Attributes]
"""Applies properties, given the physical id, the resolved properties and the region.

It returns the attributes to add for `Fn::GetAtt`.
"""


def is_true(value: Any) -> bool:
    """Read a flag, which templates may write as text."""
    return str(value).lower() == "true"


def role(name: str, properties: Properties, region: str) -> Attributes:
    """Set or remove the permissions boundary of a role."""
    iam = inproc.client("iam", region)
    boundary = properties.get("PermissionsBoundary")
    if boundary:
        iam.put_role_permissions_boundary(RoleName=name, PermissionsBoundary=boundary)
    elif "PermissionsBoundary" in iam.get_role(RoleName=name)["Role"]:
        iam.delete_role_permissions_boundary(RoleName=name)
    return {}


def bucket(name: str, properties: Properties, region: str) -> Attributes:
    """Set the encryption, lifecycle, tags and ownership of a bucket."""
    s3 = inproc.client("s3", region)
    rules = (properties.get("BucketEncryption") or {}).get(
        "ServerSideEncryptionConfiguration"
    ) or []
    if rules:
        s3.put_bucket_encryption(
            Bucket=name,
            ServerSideEncryptionConfiguration={"Rules": [_encryption(rule) for rule in rules]},
        )
    if tags := [
        tag for tag in properties.get("Tags") or [] if not str(tag["Key"]).startswith("aws:")
    ]:
        s3.put_bucket_tagging(
            Bucket=name,
            Tagging={"TagSet": [{"Key": t["Key"], "Value": str(t["Value"])} for t in tags]},
        )
    lifecycle = (properties.get("LifecycleConfiguration") or {}).get("Rules") or []
    if lifecycle:
        s3.put_bucket_lifecycle_configuration(
            Bucket=name, LifecycleConfiguration={"Rules": [_lifecycle(rule) for rule in lifecycle]}
        )
    else:
        s3.delete_bucket_lifecycle(Bucket=name)
    if ownership := properties.get("OwnershipControls"):
        s3.put_bucket_ownership_controls(
            Bucket=name, OwnershipControls={"Rules": ownership["Rules"]}
        )
    return {
        "Arn": f"arn:aws:s3:::{name}",
        "RegionalDomainName": f"{name}.s3.{region}.amazonaws.com",
        "DomainName": f"{name}.s3.amazonaws.com",
    }


def _encryption(rule: Properties) -> dict[str, Any]:
    """Return an encryption rule in the API's form."""
    made: dict[str, Any] = {
        "ApplyServerSideEncryptionByDefault": dict(rule["ServerSideEncryptionByDefault"])
    }
    if "BucketKeyEnabled" in rule:
        made["BucketKeyEnabled"] = is_true(rule["BucketKeyEnabled"])
    return made


def _lifecycle(rule: Properties) -> dict[str, Any]:
    """Return a lifecycle rule in the API's form. Templates use other names."""
    made: dict[str, Any] = {"Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    if rule.get("Id"):
        made["ID"] = rule["Id"]
    if "ExpirationInDays" in rule:
        made["Expiration"] = {"Days": int(rule["ExpirationInDays"])}
    if is_true(rule.get("ExpiredObjectDeleteMarker")):
        made["Expiration"] = {"ExpiredObjectDeleteMarker": True}
    if old := rule.get("NoncurrentVersionExpiration"):
        made["NoncurrentVersionExpiration"] = {name: int(value) for name, value in old.items()}
    if "NoncurrentVersionExpirationInDays" in rule:
        made["NoncurrentVersionExpiration"] = {
            "NoncurrentDays": int(rule["NoncurrentVersionExpirationInDays"])
        }
    if unfinished := rule.get("AbortIncompleteMultipartUpload"):
        made["AbortIncompleteMultipartUpload"] = {
            "DaysAfterInitiation": int(unfinished["DaysAfterInitiation"])
        }
    if moves := rule.get("Transitions"):
        made["Transitions"] = [
            {"StorageClass": m["StorageClass"], "Days": int(m["TransitionInDays"])} for m in moves
        ]
    return made


def vpc(_vpc_id: str, properties: Properties, _region: str) -> Attributes:
    """Return the address range of a VPC for `Fn::GetAtt`."""
    return {
        "CidrBlock": properties.get("CidrBlock"),
        "CidrBlockAssociations": [],
        "Ipv6CidrBlocks": [],
    }


def endpoint(endpoint_id: str, properties: Properties, _region: str) -> Attributes:
    """Keep the policy, groups and private DNS setting of a VPC endpoint."""
    keep_of_endpoint(endpoint_id, properties)
    return {}


def function(name: str, properties: Properties, region: str) -> Attributes:
    """Set the dead-letter queue, the reserved concurrency and other settings of a function."""
    client = inproc.client("lambda", region)
    kept = ("DeadLetterConfig", "KmsKeyArn", "VpcConfig", "FileSystemConfigs")
    wanted = {
        "KMSKeyArn" if key == "KmsKeyArn" else key: properties[key]
        for key in kept
        if properties.get(key)
    }
    if wanted:
        client.update_function_configuration(FunctionName=name, **wanted)
    if tenancy := properties.get("TenancyConfig"):
        # No call changes it after the creation, so it is written into the function's record.
        arn = client.get_function_configuration(FunctionName=name)["FunctionArn"]
        record, _, _ = seams.module("services.lambda_svc")._get_func_record_for_ref(arn)
        record["config"]["TenancyConfig"] = dict(tenancy)
    reserved = properties.get("ReservedConcurrentExecutions")
    if reserved is not None:
        client.put_function_concurrency(
            FunctionName=name, ReservedConcurrentExecutions=int(reserved)
        )
    else:
        client.delete_function_concurrency(FunctionName=name)
    return {}


def instance_profile(name: str, _properties: Properties, region: str) -> Attributes:
    """Return the ARN of an instance profile for `Fn::GetAtt`."""
    profile = inproc.client("iam", region).get_instance_profile(InstanceProfileName=name)[
        "InstanceProfile"
    ]
    return {"Arn": profile["Arn"]}


COMPLETIONS: dict[str, Completion] = {
    "AWS::IAM::Role": role,
    "AWS::IAM::InstanceProfile": instance_profile,
    "AWS::S3::Bucket": bucket,
    "AWS::EC2::VPC": vpc,
    "AWS::EC2::VPCEndpoint": endpoint,
    "AWS::Lambda::Function": function,
}


def physical_id(kind: str, made: str) -> str:
    """Return the value of `Ref`: for an instance profile its name, not the emulator's ARN."""
    return made.rsplit("/", 1)[-1] if kind == "AWS::IAM::InstanceProfile" else made


def emulators_id(kind: str, name: str, account_id: str) -> str:
    """Return the physical id that the emulator knows: for an instance profile its ARN.

    It is the reverse of :func:`physical_id`. The emulator's handlers of an instance profile search
    for the ARN, and do nothing if they do not find it.

    >>> emulators_id("AWS::IAM::InstanceProfile", "trainer", "123456789012")
    'arn:aws:iam::123456789012:instance-profile/trainer'
    """
    if kind != "AWS::IAM::InstanceProfile" or name.startswith("arn:"):
        return name
    return f"arn:aws:iam::{account_id}:instance-profile/{name}"


def refuse_deletion(kind: str, name: str, region: str) -> str | None:
    """Return why a resource cannot be deleted, or None."""
    if kind == "AWS::S3::Bucket" and is_full(name, region):
        return (
            "The bucket you tried to delete is not empty. You must delete all versions in the "
            "bucket."
        )
    return None


def is_full(name: str, region: str) -> bool:
    """Say whether a bucket holds an object, an old version or a delete marker."""
    s3 = inproc.client("s3", region)
    try:
        found = s3.list_object_versions(Bucket=name, MaxKeys=1)
    except s3.exceptions.ClientError:
        return False
    return bool(found.get("Versions") or found.get("DeleteMarkers"))


def check_object(bucket_name: str, key: str, region: str) -> None:
    """Check that the object with a function's code exists.

    :raises ValueError: with Lambda's message.
    """
    s3 = inproc.client("s3", region)
    try:
        s3.head_object(Bucket=bucket_name, Key=key)
    except s3.exceptions.ClientError as problem:
        code = {"404": "NoSuchKey"}.get(
            problem.response["Error"]["Code"], problem.response["Error"]["Code"]
        )
        text = (
            f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: "
            f"s3://{bucket_name}/{key} cannot be read."
        )
        raise ValueError(
            f'Resource handler returned message: "{text}" (Service: Lambda, Status Code: 400)'
        ) from None
