"""Links on a task to the EC2 and S3 consoles: a trial's machine, its files, and the report."""

from typing import Any

from airflow.sdk import BaseOperator, BaseOperatorLink, Context

from rl_airflow.run.run_resources import RunPlan
from rl_lifecycle.storage.layout import TrialId, checkpoint_prefix, log_prefix

S3_CONSOLE = "https://s3.console.aws.amazon.com/s3/buckets/{bucket}?region={region}&prefix={prefix}"
S3_OBJECT = "https://s3.console.aws.amazon.com/s3/object/{bucket}?region={region}&prefix={key}"
EC2_CONSOLE = "https://{region}.console.aws.amazon.com/ec2/home?region={region}#InstanceDetails:instanceId={instance_id}"


class TrialLink(BaseOperatorLink):
    """A link that the operator stores in `links` under the class name.

    Airflow stores it when the task ends. :func:`show_links` stores it earlier, so that the UI shows
    it while the task is deferred.
    """

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the link of the operator that just ran; empty if it has none."""
        del ti_key
        links: dict[str, str] = getattr(operator, "links", {})
        return links.get(type(self).__name__, "")


class Ec2InstanceLink(TrialLink):
    """The trial's newest machine."""

    name = "EC2 instance"


class S3LogLink(TrialLink):
    """The log of the trial's newest machine."""

    name = "Machine log"


class S3TrialLink(TrialLink):
    """The trial's checkpoints."""

    name = "Checkpoints"


class S3ReportLink(TrialLink):
    """The report of the decision, for a person."""

    name = "Report"


TRIAL_LINKS = (Ec2InstanceLink(), S3LogLink(), S3TrialLink())


JUDGE_LINKS = (S3ReportLink(),)


def report_link(plan: RunPlan, key: str) -> str:
    """Return the console's URL of a report's page."""
    return S3_OBJECT.format(bucket=plan.bucket, region=plan.own_region, key=key)


def trial_links(plan: RunPlan, trial: str, attempt: int, instance_id: str | None) -> dict[str, str]:
    """Return the links of a trial by class name, without links to missing things."""
    region, trial_id = plan.own_region, TrialId(plan.experiment, plan.run, trial)
    links = {
        "S3TrialLink": S3_CONSOLE.format(
            bucket=plan.bucket, region=region, prefix=checkpoint_prefix(trial_id)
        ),
        "S3LogLink": S3_CONSOLE.format(
            bucket=plan.bucket, region=region, prefix=log_prefix(trial_id, attempt)
        ),
    }
    if instance_id is not None:
        links["Ec2InstanceLink"] = EC2_CONSOLE.format(region=region, instance_id=instance_id)
    return links


def show_links(context: Context, links: dict[str, str]) -> None:
    """Push links as XComs, so that the UI shows them before the task ends."""
    for link in TRIAL_LINKS:
        if url := links.get(type(link).__name__):
            context["ti"].xcom_push(key=link.xcom_key, value=url)
