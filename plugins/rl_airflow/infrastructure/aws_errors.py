"""The types of the errors that boto3 raises.

Write `except client_error() as error`. Python calls the function only when something was raised.
So parsing a DAG does not import botocore, which takes a tenth of a second.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError


def client_error() -> "type[ClientError]":
    """Return the type of an error with which AWS answered."""
    from botocore.exceptions import ClientError

    return ClientError


def aws_errors() -> "tuple[type[ClientError], type[BotoCoreError]]":
    """Return the types of all errors of a call: AWS refused it, or AWS did not answer."""
    from botocore.exceptions import BotoCoreError, ClientError

    return ClientError, BotoCoreError
