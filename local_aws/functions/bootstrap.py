"""Loads a function's handler and serves invocations, in the function's process and Python.

This is a script that needs only the standard library. It is started with `-I -S`, so the handler
sees boto3 (which AWS's runtime also contains), its zip and its layers, and nothing else. Requests
and responses pass through two pipes. The handler's output is its log.
"""

import importlib
import json
import os
import struct
import sys
import time
import traceback
from pathlib import Path
from typing import IO, Any


class LambdaContext:
    """The context object that the handler gets.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    identity = None
    client_context = None

    def __init__(self, request: dict[str, Any]) -> None:
        self.aws_request_id = request["request_id"]
        self.tenant_id = request["tenant"]
        self.invoked_function_arn = request["arn"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self._deadline = time.monotonic() + request["timeout_s"]

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the function is killed."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))

    def log(self, message: object) -> None:
        """Write a message to the log."""
        sys.stdout.write(str(message))


def read_message(source: IO[bytes]) -> Any:
    """Return the next message, or None at the end of the pipe."""
    head = source.read(4)
    if len(head) < 4:
        return None
    return json.loads(source.read(struct.unpack(">I", head)[0]))


def write_message(target: IO[bytes], message: dict[str, Any]) -> None:
    """Write one message."""
    raw = json.dumps(message).encode()
    target.write(struct.pack(">I", len(raw)) + raw)
    target.flush()


def describe(error: BaseException, request_id: str, skip: int) -> dict[str, Any]:
    """Return an exception in Lambda's form.

    :param skip: the number of outer stack frames to leave out, which belong to this file.
    """
    frames = traceback.format_list(traceback.extract_tb(error.__traceback__)[skip:])
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "requestId": request_id,
        "stackTrace": frames,
    }


def import_error(module: str, error: BaseException) -> dict[str, Any]:
    """Return the error of a handler module that cannot be loaded, in Lambda's form."""
    if isinstance(error, ImportError):
        kind, text = "Runtime.ImportModuleError", f"Unable to import module '{module}': {error}"
    elif isinstance(error, SyntaxError):
        kind, text = "Runtime.UserCodeSyntaxError", f"Syntax error in module '{module}': {error}"
    else:
        return describe(error, "", 4)
    return {"errorMessage": text, "errorType": kind, "requestId": "", "stackTrace": []}


def load(handler: str) -> tuple[Any, dict[str, Any] | None]:
    """Return the handler function and None, or None and the error."""
    module_name, dot, name = handler.rpartition(".")
    if not dot:
        return None, {
            "errorMessage": (
                f"Bad handler '{handler}': not enough values to unpack (expected 2, got 1)"
            ),
            "errorType": "Runtime.MalformedHandlerName",
            "requestId": "",
            "stackTrace": [],
        }
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except BaseException as error:  # the module is the user's code and may raise anything
        traceback.print_exc()
        return None, import_error(module_name, error)
    found = getattr(module, name, None)
    if found is None:
        return None, {
            "errorMessage": f"Handler '{name}' missing on module '{module_name}'",
            "errorType": "Runtime.HandlerNotFound",
            "requestId": "",
            "stackTrace": [],
        }
    return found, None


def invoke(function: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Run the handler once and return the answer."""
    try:
        result = function(request["event"], LambdaContext(request))
    except Exception as error:  # the handler is the user's code and may raise anything
        traceback.print_exc()
        return {"error": describe(error, request["request_id"], 1)}
    try:
        return {"result": json.dumps(result, ensure_ascii=False)}
    except (TypeError, ValueError) as error:
        text = f"Unable to marshal response: {error}"
        return {
            "error": {
                "errorMessage": text,
                "errorType": "Runtime.MarshalError",
                "requestId": request["request_id"],
                "stackTrace": [],
            }
        }


def guard() -> None:
    """Stop connections that leave this machine."""
    path = Path(os.environ.pop("LOCAL_AWS_GUARD"))
    exec(compile(path.read_text(), str(path), "exec"), {"__name__": "local_aws_guard"})  # noqa: S102 - our own file


def main() -> None:
    """Serve invocations until the pipe closes."""
    requests, responses = os.fdopen(int(sys.argv[1]), "rb"), os.fdopen(int(sys.argv[2]), "wb")
    sys.path[:0] = json.loads(os.environ.pop("LOCAL_AWS_PATHS"))
    sys.argv = [""]
    guard()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    function, error = load(os.environ["_HANDLER"])
    write_message(responses, {"ready": error is None, "error": error})
    while error is None and (request := read_message(requests)) is not None:
        answer = invoke(function, request)
        sys.stdout.flush()
        sys.stderr.flush()
        write_message(responses, answer)


if __name__ == "__main__":
    main()
