"""What each error code of AWS means, and how long each service is waited for; without botocore.

AWS documents far more codes than the ones below. A code that is in no list and follows no rule is
UNKNOWN: it is neither repeated nor taken as a proof of anything.

Sources: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html,
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, and for the other services the
errors that botocore's models list for each operation.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple


class ErrorKind(StrEnum):
    """What an error code says about a request."""

    RETRY = "retry"  # AWS is busy or broken: the same request may succeed later
    CAPACITY = "capacity"  # AWS has no such machine now
    QUOTA = "quota"  # the account uses all that it may; it may use less later
    DENIED = "denied"  # the caller or the account may not do this
    CREDENTIALS = "credentials"  # the caller's keys or its clock are wrong, or a session has ended
    REPEATED = "repeated"  # an earlier request had the same client token
    BAD_REQUEST = "bad_request"  # this request cannot succeed as it is
    UNKNOWN = "unknown"  # none of the above is known


#: The code for a client token whose machine has ended: there is no machine, and there will be none.
ENDED_MACHINE = "IdempotentInstanceTerminated"

_CODES = {
    ErrorKind.RETRY: """
        RequestLimitExceeded Throttling ThrottlingException ThrottledException RequestThrottled
        RequestThrottledException TooManyRequestsException EC2ThrottledException SlowDown
        BandwidthLimitExceeded PriorRequestNotComplete ProvisionedThroughputExceededException
        TransactionInProgressException SnapshotCreationPerVolumeRateExceeded
        InternalError InternalFailure InternalErrorException InternalServerError ServerInternal
        ServiceUnavailable Unavailable ServiceException ServiceFailure RetryableError
        InternalServiceException EC2UnexpectedException RequestTimeout RequestTimeoutException
        ConcurrentTagAccess CreditSpecificationUpdateInProgress OperationAborted
        ConditionalRequestConflict ResourceConflictException ResourceNotReadyException
        ConcurrentModification OperationInProgressException KMSThrottling KMSThrottlingException
        SnapStartNotReadyException ENINotReadyException 500 502 503 504 409
    """,
    ErrorKind.CAPACITY: """
        InsufficientInstanceCapacity InsufficientHostCapacity InsufficientCapacity
        InsufficientCapacityOnHost InsufficientAddressCapacity InsufficientVolumeCapacity
        InsufficientReservedInstanceCapacity InsufficientReservedInstancesCapacity
        InsufficientFreeAddressesInSubnet SubnetIPAddressLimitReachedException
        UnfulfillableCapacity ReservationCapacityExceeded SpotMaxPriceTooLow
    """,
    ErrorKind.QUOTA: """
        MaxSpotInstanceCountExceeded VcpuLimitExceeded InstanceLimitExceeded MaxFleetCountExceeded
        MaxSpotFleetRequestCountExceeded VolumeLimitExceeded MaxIOPSLimitExceeded
        NetworkInterfaceLimitExceeded ResourceLimitExceeded LimitExceeded LimitExceededException
        ServiceQuotaExceededException ENILimitReachedException
    """,
    ErrorKind.DENIED: """
        UnauthorizedOperation AccessDenied AccessDeniedException AuthorizationError
        AuthorizationErrorException NotAuthorizedException UnauthorizedException 403
        AccountDisabled AccountProblem AllAccessDisabled Blocked NotSignedUp OptInRequired
        PendingVerification RegionDisabledException OperationNotPermitted TagPolicyViolation
        CustomerKeyHasBeenRevoked KMSAccessDeniedException EC2AccessDeniedException KMSAccessDenied
        KMSOptInRequired UnmodifiableEntity
    """,
    ErrorKind.CREDENTIALS: """
        AuthFailure ExpiredToken ExpiredTokenException RequestExpired TokenRefreshRequired
        InvalidAccessKeyId InvalidClientTokenId InvalidToken InvalidSecurity SignatureDoesNotMatch
        InvalidSecurity.RequestHasExpired IncompleteSignature MissingAuthenticationToken
        MissingSecurityHeader UnrecognizedClientException RequestTimeTooSkewed
    """,
    ErrorKind.REPEATED: """
        IdempotentInstanceTerminated IdempotentParameterMismatch TokenAlreadyExistsException
    """,
    ErrorKind.BAD_REQUEST: """
        TagLimitExceeded FilterLimitExceeded AttachmentLimitExceeded PrivateIpAddressLimitExceeded
        SecurityGroupsPerInstanceLimitExceeded SecurityGroupsPerInterfaceLimitExceeded
        RequestResourceCountExceeded ResourceCountExceeded TargetCapacityLimitExceededException
        BootForVolumeTypeUnsupported EncryptedVolumesNotSupported VolumeTypeNotAvailableInZone
        VolumeIOPSLimit VPCIdNotSpecified VPCResourceNotSpecified DefaultVpcDoesNotExist
        InstanceCreditSpecification.NotSupported ClientInvalidParameterValue ValidationError
        ValidationException PreconditionFailed BadDigest EntityTooLarge EntityTooSmall
        KeyTooLongError MethodNotAllowed BucketNotEmpty BucketAlreadyExists
        BucketAlreadyOwnedByYou PermanentRedirect TemporaryRedirect Redirect
        XAmzContentSHA256Mismatch NonEBSInstance AlreadyExistsException EntityAlreadyExists
        InsufficientCapabilitiesException IllegalArgumentException ExpiredNextTokenException
        PaginationTokenExpiredException PackedPolicyTooLarge QueueDoesNotExist PolicyEvaluation
        ParameterValueInvalid RequestTooLargeException SerializedRequestEntityTooLargeException
        EncryptionTypeMismatch TooManyParts KMSDisabled KMSDisabledException KMSInvalidState
        KMSInvalidStateException ModeNotSupportedException NoPublishedVersionException
        RecursiveInvocationException RuntimeVersionDeletedException 400 404 405 412 416
    """,
}
_KINDS = {code: kind for kind, codes in _CODES.items() for code in codes.split()}
#: botocore's errors for a request without an answer. Its other errors are about our own request.
NO_ANSWER = frozenset(
    {"ConnectionError", "HTTPClientError", "ResponseStreamingError", "IncompleteReadError"}
)
_BEGINNINGS = ("Invalid", "Malformed", "Missing", "NoSuch", "Unknown", "Unsupported", "Incorrect")
_ENDS = (".NotFound", "NotFound", "NotFoundException", ".Malformed", ".Duplicate")


def error_code(error: BaseException) -> str:
    """Find the error code in AWS's answer.

    :param error: a botocore `ClientError`, or any other error.
    :return: for example `NoSuchKey`. It is empty if the error is not an answer of AWS.
    """
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def kind_of(code: str) -> ErrorKind:
    """Say what an error code means. A code that AWS adds tomorrow is unknown.

    >>> [kind_of(code).value for code in ("VcpuLimitExceeded", "InvalidAMIID.NotFound", "NewCode")]
    ['quota', 'bad_request', 'unknown']
    """
    if kind := _KINDS.get(code):
        return kind
    is_bad = code.startswith(_BEGINNINGS) or code.endswith(_ENDS)
    return ErrorKind.BAD_REQUEST if is_bad else ErrorKind.UNKNOWN


class Waiting(NamedTuple):
    """How long a service is waited for when it is busy, broken or out of reach, and why."""

    most_s: float
    why: str


#: The longest wait for each service, measured in time and not in tries, because AWS may refuse for
#: minutes. Only answers that may change are waited for (:func:`may_pass`). Everything that waits
#: for AWS reads this table. Three waits are shorter, because what waits there is paid for while it
#: waits, and Airflow, which called it, asks again by this table: the dispatcher for the player and
#: the judge (rl_evaluator/dispatching/functions.py), the player for S3 (playing/url_store.py), and
#: a trigger for any service, which looks again by itself.
WAITING = {
    "ec2": Waiting(
        3600.0,
        "a throttled account recovers within minutes, a broken region within hours; a machine that "
        "cannot be seen meanwhile trains on, and ends by itself at its deadline",
    ),
    "s3": Waiting(
        3600.0, "everything that a run knows is there, and a trainer waits for it just as long"
    ),
    "lambda": Waiting(
        3600.0,
        "a throttled function has run nothing; an account may have only 10 executions at the same "
        "time, and each of them may take 15 minutes",
    ),
    "sts": Waiting(
        900.0,
        "a task needs a session before it can do anything; an hour's session bridges the rest",
    ),
    "cloudformation": Waiting(
        900.0, "a run reads the stacks' outputs once, before it costs anything"
    ),
    "sns": Waiting(20.0, "a notice must not hold up the task that it is about"),
    "service-quotas": Waiting(0.0, "the check is optional: EC2 itself refuses what is too much"),
    "pricing": Waiting(0.0, "the table of prices in the package stands in"),
}
#: For a service that is not in the table.
OTHER_SERVICE = Waiting(300.0, "no run depends on it")
#: An answer that will not change by waiting is believed after this time, seconds, by a trigger and
#: by a trainer, whose role may be new. IAM needs it to make a change known everywhere:
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html#troubleshoot_general_eventual-consistency
BELIEVED_AFTER_S = 120.0
#: The pauses between two tries double from the first to the second of these, seconds.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0


def waiting_for(service: str) -> Waiting:
    """Return how long a service is waited for.

    >>> waiting_for("sns").most_s, waiting_for("iam").most_s
    (20.0, 300.0)
    """
    return WAITING.get(service, OTHER_SERVICE)


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed later: AWS is busy or broken, or did not answer.

    An answer with an unknown code counts if its HTTP status is 500 or more.
    """
    code, status = error_code(error), http_status(error)
    if code:
        kind = kind_of(code)
        return kind is ErrorKind.RETRY or (kind is ErrorKind.UNKNOWN and status >= 500)
    return any(base.__name__ in NO_ANSWER for base in type(error).__mro__) or _cause_may_pass(error)


def _cause_may_pass(error: BaseException) -> bool:
    """Whether an error of ours stands for an error of AWS that may pass."""
    return error.__cause__ is not None and may_pass(error.__cause__)


def http_status(error: BaseException) -> int:
    """Find the HTTP status of AWS's answer; 0 if the error is not an answer of AWS."""
    response = getattr(error, "response", None)
    meta = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    return int(meta.get("HTTPStatusCode", 0))


def pauses_s(most_s: float) -> Iterator[float]:
    """Return the pauses between the tries of a request, which together take `most_s`.

    >>> list(pauses_s(20.0)), list(pauses_s(0.0))
    ([1.0, 2.0, 4.0, 8.0, 5.0], [])
    """
    pause, left = FIRST_PAUSE_S, most_s
    while left > 0:
        yield min(pause, left)
        left -= pause
        pause = min(LONGEST_PAUSE_S, 2 * pause)
