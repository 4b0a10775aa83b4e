"""What a service reports beyond a template: its own facts, and AWS's documented defaults."""

from __future__ import annotations

from typing import Any

#: What a service adds and a template cannot set, by type and path. CloudFormation's reference of
#: each type has no such property, or has it as a return value:
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-template-resource-type-ref.html
FACTS: dict[str, frozenset[str]] = {
    "AWS::Budgets::Budget": frozenset(
        {
            ".Budget.CalculatedSpend",
            ".Budget.LastUpdatedTime",
            ".NotificationsWithSubscribers.Notification.NotificationState",
        }
    ),
    "AWS::CloudWatch::Alarm": frozenset(
        {
            ".AlarmArn",
            ".AlarmConfigurationUpdatedTimestamp",
            ".StateReason",
            ".StateUpdatedTimestamp",
            ".StateValue",
        }
    ),
    "AWS::EC2::Route": frozenset({".Origin", ".State"}),
    "AWS::Lambda::EventInvokeConfig": frozenset(
        {".FunctionArn", ".LastModified", ".ResponseMetadata"}
    ),
    "AWS::SNS::Subscription": frozenset({".Owner", ".SubscriptionArn"}),
    "AWS::SQS::Queue": frozenset(
        {
            ".ApproximateNumberOfMessages",
            ".ApproximateNumberOfMessagesDelayed",
            ".ApproximateNumberOfMessagesNotVisible",
            ".CreatedTimestamp",
            ".LastModifiedTimestamp",
            ".QueueArn",
            ".Policy",  # a resource of its own, AWS::SQS::QueuePolicy, which is read, too
        }
    ),
}
#: AWS's defaults, by type and path. The reference of each type states them.
DEFAULTS: dict[tuple[str, str], Any] = {
    # The end of a budget without an end; it begins with the month.
    # https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_budgets_TimePeriod.html
    ("AWS::Budgets::Budget", ".Budget.TimePeriod.End"): "2087-06-15 00:00:00+00:00",
    ("AWS::CloudWatch::Alarm", ".ActionsEnabled"): True,
    # https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-access.html
    ("AWS::EC2::VPCEndpoint", ".PolicyDocument"): {
        "Version": "2008-10-17",
        "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}],
    },
    ("AWS::Events::Rule", ".State"): "ENABLED",
    ("AWS::IAM::Role", ".MaxSessionDuration"): 3600,
    # https://docs.aws.amazon.com/cli/latest/reference/lambda/get-function-event-invoke-config.html
    ("AWS::Lambda::EventInvokeConfig", ".DestinationConfig"): {"OnFailure": {}, "OnSuccess": {}},
    ("AWS::Lambda::Function", ".EphemeralStorage"): {"Size": 512},
    ("AWS::SQS::Queue", ".DelaySeconds"): 0,
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
    ("AWS::SQS::Queue", ".MaximumMessageSize"): 1_048_576,
    ("AWS::SQS::Queue", ".ReceiveMessageWaitTimeSeconds"): 0,
    ("AWS::SQS::Queue", ".VisibilityTimeout"): 30,
}
