"""The table: every row with its source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.local_aws.conformance.account import Account, Row
from tests.local_aws.conformance.condition_rows import (
    DISK_TYPES,
    ENCRYPTION,
    HOPS,
    SIZES,
    TOKENS,
    TYPES,
    without_a_template,
)
from tests.local_aws.conformance.ec2_rows import (
    dry_run,
    groups_and_rules_once,
    ids_and_pages,
    many_values,
    offered_by_zone,
    sizes,
    spot_prices,
    subnets_fit,
    template_versions,
    unknown_filter,
    unknown_instance,
    unknown_type,
    vpc_in_use,
)
from tests.local_aws.conformance.launch_rows import (
    console,
    fleet_token,
    fleet_token_after_the_end,
    lag_of_describe,
    named_after_deletion,
    run_token_after_the_end,
    tag_on_create,
)
from tests.local_aws.conformance.service_rows import (
    chained_session,
    function_unknown,
    malformed_identity_policy,
    malformed_policy,
    malformed_trust,
    one_role_a_profile,
    parameter_of_aws,
    parameter_once,
    policy_limits,
    queue_delivers,
    role_in_use,
    role_twice,
    stack_unknown,
    stack_without_capability,
    unresolved_reference,
)
from tests.local_aws.conformance.storage_rows import (
    bucket_refuses,
    checksum,
    common_prefixes,
    full_bucket,
    if_match,
    if_none_match,
    listing_is_sorted,
    presigned,
    range_beyond,
    range_read,
)
from tests.local_aws.conformance.write_rows import (
    racing_creations,
    racing_moves,
    repeated_creation,
    repeated_move,
)
from tests.local_aws.conftest import code_of

DOCS = "https://docs.aws.amazon.com/"


def refuses(service: str, call: str, code: str, **arguments: Any) -> Callable[[Account], bool]:
    """Return a row that makes one call, which must be refused with a code."""
    return lambda account: code_of(getattr(account.client(service), call), **arguments) == code


NOBODY = "nobody-has-this-name-0"
S3, EC2, IAM = (
    f"{DOCS}AmazonS3/latest/",
    f"{DOCS}AWSEC2/latest/APIReference/",
    f"{DOCS}IAM/latest/APIReference/",
)
CFN, LAMBDA = f"{DOCS}AWSCloudFormation/latest/APIReference/", f"{DOCS}lambda/latest/api/"
BASIC = [
    Row("IfNoneMatch lets one writer win", f"{S3}userguide/conditional-writes.html", if_none_match),
    Row("IfMatch moves by comparing", f"{S3}userguide/conditional-writes.html", if_match),
    Row("listings are sorted and paged", f"{S3}API/API_ListObjectsV2.html", listing_is_sorted),
    Row("delimiters fold", f"{S3}API/API_ListObjectsV2.html", common_prefixes),
    Row("a full bucket stays", f"{S3}API/API_DeleteBucket.html", full_bucket),
    Row("a wrong digest is refused", f"{S3}API/API_PutObject.html", checksum),
    Row("ranges", f"{S3}API/API_GetObject.html", range_read),
    Row("presigned URLs", f"{S3}userguide/using-presigned-url.html", presigned),
    Row("malformed trust policies are refused", f"{IAM}API_CreateRole.html", malformed_policy),
    Row(
        "trust policies need a principal and STS actions",
        f"{DOCS}IAM/latest/UserGuide/reference_policies_grammar.html",
        malformed_trust,
    ),
    Row(
        "malformed identity policies are refused",
        f"{IAM}API_PutRolePolicy.html",
        malformed_identity_policy,
    ),
    Row("a role's name is taken once", f"{IAM}API_CreateRole.html", role_twice),
    Row("a role in use stays", f"{IAM}API_DeleteRole.html", role_in_use),
    Row("dry runs", f"{EC2}API_RunInstances.html", dry_run),
    Row("unknown and malformed ids", f"{EC2}errors-overview.html", unknown_instance),
    Row("ids exclude pages", f"{EC2}API_DescribeInstances.html", ids_and_pages),
    Row("unknown filters are refused", f"{EC2}API_DescribeInstances.html", unknown_filter),
    Row("filters with too many values are refused", f"{EC2}errors-overview.html", many_values),
    Row("unknown instance types are refused", f"{EC2}API_DescribeInstanceTypes.html", unknown_type),
    Row("capabilities are asked for", f"{CFN}API_CreateStack.html", stack_without_capability),
    Row("an unknown stack", f"{CFN}API_DescribeStacks.html", stack_unknown),
    Row("unresolved references are refused", f"{CFN}API_CreateStack.html", unresolved_reference),
    Row("an unknown function", f"{LAMBDA}API_Invoke.html", function_unknown),
    Row(
        "queues deliver",
        f"{DOCS}AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html",
        queue_delivers,
    ),
    Row(
        "public parameters",
        f"{DOCS}systems-manager/latest/userguide/parameter-store-public-parameters.html",
        parameter_of_aws,
    ),
    Row(
        "an unknown bucket",
        f"{S3}API/ErrorResponses.html",
        refuses("s3", "list_objects_v2", "NoSuchBucket", Bucket=NOBODY),
    ),
    Row(
        "an unknown upload",
        f"{S3}API/API_UploadPart.html",
        bucket_refuses(
            "upload_part", "NoSuchUpload", Key="x", UploadId="x" * 32, PartNumber=1, Body=b""
        ),
    ),
    Row(
        "no lifecycle",
        f"{S3}API/ErrorResponses.html",
        bucket_refuses("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
    ),
    Row(
        "no bucket policy",
        f"{S3}API/ErrorResponses.html",
        bucket_refuses("get_bucket_policy", "NoSuchBucketPolicy"),
    ),
    Row(
        "malformed bucket policies are refused",
        f"{S3}API/ErrorResponses.html",
        bucket_refuses("put_bucket_policy", "MalformedPolicy", Policy="{}"),
    ),
    Row("ranges beyond the end", f"{S3}API/ErrorResponses.html", range_beyond),
    Row(
        "a VPC is a /16 at most",
        f"{EC2}API_CreateVpc.html",
        refuses("ec2", "create_vpc", "InvalidVpc.Range", CidrBlock="10.0.0.0/8"),
    ),
    Row(
        "an unknown VPC",
        f"{EC2}errors-overview.html",
        refuses("ec2", "describe_vpcs", "InvalidVpcID.NotFound", VpcIds=["vpc-0123456789abcdef0"]),
    ),
    Row("subnets fit", f"{EC2}API_CreateSubnet.html", subnets_fit),
    Row("a VPC in use stays", f"{EC2}API_DeleteVpc.html", vpc_in_use),
    Row("groups and rules are there once", f"{EC2}errors-overview.html", groups_and_rules_once),
    Row(
        "versions of launch templates",
        f"{EC2}API_DescribeLaunchTemplateVersions.html",
        template_versions,
    ),
    Row("spot prices", f"{EC2}API_DescribeSpotPriceHistory.html", spot_prices),
    Row("offerings by zone", f"{EC2}API_DescribeInstanceTypeOfferings.html", offered_by_zone),
    Row("sizes of types", f"{EC2}API_DescribeInstanceTypes.html", sizes),
    Row(
        "one role in a profile",
        f"{DOCS}IAM/latest/UserGuide/reference_iam-quotas.html",
        one_role_a_profile,
    ),
    Row("versions of policies", f"{IAM}API_CreatePolicyVersion.html", policy_limits),
    Row(
        "an unknown role",
        f"{IAM}API_GetRole.html",
        refuses("iam", "get_role", "NoSuchEntity", RoleName=NOBODY),
    ),
    Row(
        "an unknown parameter",
        f"{DOCS}systems-manager/latest/APIReference/API_GetParameter.html",
        refuses("ssm", "get_parameter", "ParameterNotFound", Name="/nobody/has/this"),
    ),
    Row(
        "parameters are not overwritten",
        f"{DOCS}systems-manager/latest/APIReference/API_PutParameter.html",
        parameter_once,
    ),
    Row(
        "chained sessions live an hour",
        f"{DOCS}STS/latest/APIReference/API_AssumeRole.html",
        chained_session,
    ),
]
"""Rows about documented behaviours that launch nothing. They also run on moto."""

WRITES = f"{S3}userguide/conditional-writes.html"
KEYS = f"{DOCS}service-authorization/latest/reference/list_amazonec2.html"
TOKEN = f"{DOCS}ec2/latest/devguide/ec2-api-idempotency.html"
LAGS = f"{DOCS}ec2/latest/devguide/eventual-consistency.html"
UNPROVEN = [
    Row("a repeated creation is refused", WRITES, repeated_creation),
    Row("a repeated move is refused", WRITES, repeated_move),
    Row("one of several creations wins", WRITES, racing_creations),
    Row("one of several moves wins", WRITES, racing_moves),
    Row("a role may be bound to a launch template", KEYS, without_a_template),
    Row("ec2:MetadataHttpTokens of a template", KEYS, TOKENS),
    Row("ec2:MetadataHttpPutResponseHopLimit of a template", KEYS, HOPS),
    Row("ec2:InstanceType of a template", KEYS, TYPES),
    Row("ec2:Encrypted of a template", KEYS, ENCRYPTION),
    Row("ec2:VolumeSize of a template", KEYS, SIZES),
    Row("ec2:VolumeType of a template", KEYS, DISK_TYPES),
    Row(
        "tags at a launch need ec2:CreateTags",
        f"{DOCS}AWSEC2/latest/UserGuide/supported-iam-actions-tagging.html",
        tag_on_create,
    ),
    Row(
        "GetResources names the deleted for a while",
        f"{DOCS}resourcegroupstagging/latest/APIReference/API_GetResources.html",
        named_after_deletion,
    ),
    Row("a fleet's token again", TOKEN, fleet_token, launches=2),
    Row("a fleet's token after the end", TOKEN, fleet_token_after_the_end, launches=2),
    Row(
        "a token of RunInstances after the end",
        f"{EC2}errors-overview.html",
        run_token_after_the_end,
        launches=2,
    ),
    Row("how soon DescribeInstances sees a launch", LAGS, lag_of_describe, launches=1),
    Row("the console shows user data", f"{EC2}API_GetConsoleOutput.html", console, launches=1),
]
"""Rows about what is not documented, or what our guarantees rest on."""
TABLE = [*BASIC, *UNPROVEN]
