"""Asynchronous invocations as on AWS: permissions, retries, dead-letter queues and destinations.

Source: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
"""

from __future__ import annotations

import contextvars
import datetime as dt
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local_aws.emulator import inproc, seams
from local_aws.iam.authorization import Authorizer
from local_aws.iam.sessions import Issuer, RoleMissingError
from local_aws.pace import Pace

log = logging.getLogger("local_aws")
Record = Mapping[str, Any]
RULE: contextvars.ContextVar[str] = contextvars.ContextVar("rule", default="")
"""The ARN of the EventBridge rule that is delivering an event."""


class Delivery:
    """Invokes functions for events.

    :ivar copies: called with the function's name; returns how often an event is delivered.
    """

    def __init__(self, issuer: Issuer, authorizer: Authorizer, pace: Pace) -> None:
        self._issuer = issuer
        self._authorizer = authorizer
        self.pace = pace
        self.copies: Callable[[str], int] = lambda _function_name: 1

    # --- Called by the emulator ---

    def invoke_async(self, record: Record, event: Any) -> None:
        """Accept an event and process it in the background; a fault may lose or duplicate it."""
        config = record.get("config") or record
        for _ in range(self.copies(str(config["FunctionName"]))):
            context = contextvars.copy_context()
            threading.Thread(
                target=context.run,
                args=(self._see_through, record, config, event),
                daemon=True,
                name="async-invoke",
            ).start()

    def deliver_rule(self, arn: str, payload: str) -> None:
        """Invoke the target of an EventBridge rule, if the function's policy allows it."""
        service = seams.module("services.lambda_svc")
        record, config, name = service._get_func_record_for_ref(arn)
        if not record or not config:
            log.warning("EventBridge cannot invoke %s: there is no such function", name)
            return
        if not self._may_invoke(arn, "events.amazonaws.com", RULE.get()):
            log.warning(
                "EventBridge may not invoke %s for %s: the function's policy does not allow it",
                arn,
                RULE.get(),
            )
            return
        if config.get("TenancyConfig"):
            log.warning("EventBridge cannot invoke %s: the function needs a tenant", arn)
            return
        self.invoke_async(
            service._execution_record_for_config(record, {**config, "FunctionArn": arn}),
            json.loads(payload),
        )

    def logging_as_role(self, original: Any) -> Any:
        """Write a function's log if its role may. Otherwise there is no log, as on AWS."""

        def emit(record: Record, *arguments: Any, **settings: Any) -> None:
            config = record.get("config") or record
            group = (config.get("LoggingConfig") or {}).get(
                "LogGroup"
            ) or f"/aws/lambda/{config.get('FunctionName')}"
            if self._may_log(str(config.get("Role", "")).rsplit("/", 1)[-1], group):
                original(record, *arguments, **settings)

        return emit

    def _may_log(self, role_name: str, group: str) -> bool:
        """Say whether a role has the permissions to write to a log group.

        If the group does not exist, the role also needs the permission to create it.
        """
        try:
            role = self._issuer.get_role(role_name)
        except RoleMissingError:
            return False
        arn = f"arn:aws:logs:{self._issuer.region}:{self._issuer.account_id}:log-group:{group}"
        calls = [
            ("logs:CreateLogStream", f"{arn}:log-stream:"),
            ("logs:PutLogEvents", f"{arn}:log-stream:function"),
        ]
        if seams.module("services.cloudwatch_logs")._log_groups.get(group) is None:
            calls.insert(0, ("logs:CreateLogGroup", arn))
        return not any(
            self._authorizer.check_role(role, self._issuer.account_id, action, on, {})
            for action, on in calls
        )

    def _may_invoke(self, arn: str, service: str, source_arn: str) -> bool:
        """Say whether the policy of a function or alias allows a service to invoke it."""
        evaluator = seams.module("core.iam_evaluator")
        found = seams.module("services.lambda_svc").function_policy_for_arn(arn)
        if found is None:
            return False
        context = evaluator.EvalContext(
            principal_arn=service,
            principal_type="Service",
            principal_account=self._issuer.account_id,
            action="lambda:InvokeFunction",
            resource_arn=arn,
            region=self._issuer.region,
            service_context={
                "aws:sourcearn": source_arn,
                "aws:sourceaccount": self._issuer.account_id,
            },
        )
        return bool(
            evaluator.evaluate_resource_policy(found[0], context, service=service).decision
            == "Allow"
        )

    # --- The life of an event ---

    def _see_through(self, record: Record, config: Record, event: Any) -> None:
        """Invoke the function until it succeeds or is given up, then notify the destination."""
        settings = invoke_config(base_record(config), config)
        began = time.monotonic()
        request_id = secrets.token_hex(16)
        result, tries, condition = self._try(record, config, event, settings, began)
        outcome = Ending(str(config["FunctionArn"]), request_id, condition, tries, event, result)
        try:
            self._notify(config, settings, outcome)
        except Exception:  # the emulator's service may raise any type; the event has ended
            log.exception("notifying the destination of %s", config["FunctionName"])

    def _try(
        self, record: Record, config: Record, event: Any, settings: Record, began: float
    ) -> tuple[dict[str, Any], int, str]:
        """Invoke the function with the retries that the settings allow.

        :return: the last result, the number of invocations, and the condition in which the event
            ended.
        """
        service = seams.module("services.lambda_svc")
        retries = int(settings.get("MaximumRetryAttempts", 2))
        oldest_s = float(settings.get("MaximumEventAgeInSeconds", 21600))
        tries, throttled_s = 0, self.pace.after_throttle_s
        while True:
            result = dict(
                service._execute_function_with_config_scope({**record, "config": config}, event)
            )
            if result.get("throttle"):
                wait_s = throttled_s
                throttled_s = min(2 * throttled_s, self.pace.longest_throttle_s)
            else:
                tries += 1
                if not result.get("error"):
                    return result, tries, "Success"
                if tries > retries:
                    return result, tries, "RetriesExhausted"
                wait_s = self.pace.after_error_s[min(tries, len(self.pace.after_error_s)) - 1]
            if time.monotonic() - began + wait_s > oldest_s:
                return result, tries, "EventAgeExceeded"
            time.sleep(wait_s)

    def _notify(self, config: Record, settings: Record, ending: Ending) -> None:
        """Send the outcome to its destination, and a failed event to the dead-letter queue, too."""
        kind = "OnSuccess" if ending.condition == "Success" else "OnFailure"
        destination = ((settings.get("DestinationConfig") or {}).get(kind) or {}).get("Destination")
        if destination:
            self._send(config, destination, json.dumps(ending.record()), {})
        queue = (config.get("DeadLetterConfig") or {}).get("TargetArn")
        if queue and kind == "OnFailure":
            self._send(config, queue, json.dumps(ending.event), ending.attributes())

    def _send(self, config: Record, arn: str, body: str, attributes: dict[str, str]) -> None:
        """Send a message with the permissions of the function's role."""
        service = arn.split(":")[2]
        action = {
            "sqs": "sqs:SendMessage",
            "sns": "sns:Publish",
            "lambda": "lambda:InvokeFunction",
            "events": "events:PutEvents",
        }[service]
        role_name = str(config["Role"]).rsplit("/", 1)[-1]
        try:
            role = self._issuer.get_role(role_name)
        except RoleMissingError:
            return log.warning("%s has lost its role %s", config["FunctionName"], role_name)
        if self._authorizer.check_role(role, self._issuer.account_id, action, arn, {}):
            return log.warning(
                "%s may not %s on %s: the event of %s is lost",
                role_name,
                action,
                arn,
                config["FunctionName"],
            )
        return self._hand_over(service, arn, body, attributes)

    def _hand_over(self, service: str, arn: str, body: str, attributes: dict[str, str]) -> None:
        """Send a message to a queue, a topic or a function."""
        values = {
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        }
        client = inproc.client(service, self._issuer.region)
        if service == "sqs":
            url = client.get_queue_url(QueueName=arn.rsplit(":", 1)[-1])["QueueUrl"]
            client.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=values)
        elif service == "sns":
            client.publish(TopicArn=arn, Message=body, MessageAttributes=values)
        elif service == "lambda":
            client.invoke(FunctionName=arn, InvocationType="Event", Payload=body)


def remembering_rule(original: Any) -> Any:
    """Remember the rule that is delivering while a target is invoked."""

    def invoke_target(target: Any, event: Any, rule: Record, view: Any = None) -> Any:
        token = RULE.set(str(rule.get("Arn", "")))
        try:
            return original(target, event, rule, view)
        finally:
            RULE.reset(token)

    return invoke_target


@dataclass(frozen=True)
class Ending:
    """The outcome of an asynchronous event.

    :param condition: `Success`, `RetriesExhausted` or `EventAgeExceeded`.
    :param tries: the number of invocations.
    :param result: the emulator's result of the last invocation.
    """

    function_arn: str
    request_id: str
    condition: str
    tries: int
    event: Any
    result: Mapping[str, Any]

    def _payload(self) -> Any:
        """Return the function's answer."""
        body = self.result.get("body")
        return (
            json.loads(body) if isinstance(body, str) and self.result.get("raw_payload") else body
        )

    def record(self) -> dict[str, Any]:
        """Return the invocation record for a destination."""
        return {
            "version": "1.0",
            "timestamp": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "requestContext": {
                "requestId": self.request_id,
                "functionArn": self.function_arn,
                "condition": self.condition,
                "approximateInvokeCount": self.tries,
            },
            "requestPayload": self.event,
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                **({"functionError": "Unhandled"} if self.result.get("error") else {}),
            },
            "responsePayload": self._payload(),
        }

    def attributes(self) -> dict[str, str]:
        """Return the attributes of the message in a dead-letter queue."""
        body = self.result.get("body")
        message = body.get("errorMessage", "") if isinstance(body, dict) else ""
        return {
            "RequestID": self.request_id,
            "ErrorCode": "200",
            "ErrorMessage": str(message)[:1024] or "unknown",
        }


def base_record(config: Record) -> Record:
    """Return a function's own record. The records of its versions lack some settings."""
    service = seams.module("services.lambda_svc")
    account, region = service._account_region_from_function_config(config)
    return dict(service._functions.get_scoped(account, region, config["FunctionName"]) or {})


def reserved_concurrency(_record: Record, config: Record) -> int | None:
    """Return a function's reserved concurrency, for any of its versions."""
    reserved = base_record(config).get("concurrency")
    if isinstance(reserved, dict):
        reserved = reserved.get("ReservedConcurrentExecutions")
    return None if reserved is None else int(reserved)


def invoke_config(record: Record, config: Record) -> Record:
    """Return the asynchronous settings of the qualifier that was invoked."""
    configs = record.get("event_invoke_configs") or {}
    arn = str(config.get("FunctionArn", ""))
    qualifier = arn.split(":")[7] if arn.count(":") >= 7 else ""
    found = configs.get(qualifier) or (
        configs.get("$LATEST") or configs.get("") or record.get("event_invoke_config")
        if not qualifier
        else None
    )
    return found or {}
