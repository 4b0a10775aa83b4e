"""Reading botocore's errors without importing botocore, and what each error code of AWS means.

AWS documents far more codes than the ones below. A code that is in no list and follows no rule is
UNKNOWN: it is neither repeated nor taken as a proof of anything.

Sources: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html,
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, and for the other services the
errors that botocore's models list for each operation.
"""

from enum import StrEnum


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
_BEGINNINGS = ("Invalid", "Malformed", "Missing", "NoSuch", "Unknown", "Unsupported", "Incorrect")
_ENDS = (".NotFound", "NotFound", "NotFoundException", ".Malformed", ".Duplicate")


def error_code(error: Exception) -> str:
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
