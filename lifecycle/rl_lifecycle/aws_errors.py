"""Reading botocore's errors without importing botocore."""


def error_code(error: Exception) -> str:
    """Find the error code in AWS's answer.

    :param error: a botocore `ClientError`, or any other error.
    :return: for example `NoSuchKey`. It is empty if the error is not an answer of AWS.
    """
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
