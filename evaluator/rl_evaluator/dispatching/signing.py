"""Sign addresses for single keys of the bucket.

S3 checks the rights of the dispatcher's role when an address is used, and the address ends with the
credentials that signed it, if that is sooner.
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: How long an address can be used, seconds.
VALID_S = 3600


class S3Signer:
    """Signs addresses with the credentials of an S3 client.

    :param client: a client with Signature Version 4 and without checksums that it adds by itself,
        because the player would have to send them.
    """

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self.client, self.bucket = client, bucket

    def sign_read(self, key: str) -> str:
        """Make an address to read a key."""
        return self.client.generate_presigned_url(
            "get_object", Params={"Bucket": self.bucket, "Key": key}, ExpiresIn=VALID_S
        )

    def sign_write_once(self, key: str) -> str:
        """Make an address to write a key, unless it exists.

        `If-None-Match` is a signed header. Without it the signature is wrong, so the address cannot
        be used to replace an object.
        """
        return self.client.generate_presigned_url(
            "put_object",
            Params={"Bucket": self.bucket, "Key": key, "IfNoneMatch": "*"},
            ExpiresIn=VALID_S,
        )
