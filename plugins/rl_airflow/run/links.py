"""Links on a task: to the console's pages of its run, and to AWS where the console shows nothing.

A link to the console is relative to Airflow's own address, because a worker need not know it, and
it may have a base path. Airflow's UI resolves it. An emulator of AWS has no console of AWS.
"""

from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from airflow.sdk import BaseOperator, BaseOperatorLink, Context

from rl_airflow.run.experiment_files import RESERVED, dag_id_of
from rl_airflow.run.run_resources import RunPlan
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.layout import LEARNER_SEAT, TrialId, checkpoint_prefix, log_prefix

#: Where Airflow's UI shows the console's pages.
PAGES = "plugin/nightshift"
S3_CONSOLE = "https://s3.console.aws.amazon.com/s3/buckets/{bucket}?region={region}&prefix={prefix}"
EC2_CONSOLE = "https://{region}.console.aws.amazon.com/ec2/home?region={region}#InstanceDetails:instanceId={instance_id}"
AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn")


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


class LearningCurveLink(TrialLink):
    """The curves of the run."""

    name = "Learning curve"


class S3ReportLink(TrialLink):
    """The report of the decision, for a person."""

    name = "Report"


class VersionLink(TrialLink):
    """The experiment's versions, with the one that the task put into service."""

    name = "Version"


TRIAL_LINKS = (Ec2InstanceLink(), S3LogLink(), S3TrialLink(), LearningCurveLink())
JUDGE_LINKS = (S3ReportLink(),)
VERSION_LINKS = (VersionLink(),)


def page_link(experiment: str, page: str = "", **query: object) -> str:
    """Return the address of a page of the console.

    :param page: `run`, `report` or `log`; empty for the experiment's own page.

    >>> page_link("cartpole_ppo", "run", run_id="manual__2026-12-01T02:00:00+00:00")
    'plugin/nightshift/retrain_cartpole_ppo/run?run_id=manual__2026-12-01T02%3A00%3A00%2B00%3A00'
    """
    path = "/".join(filter(None, (PAGES, quote(dag_id_of(experiment)), page)))
    return f"{path}?{urlencode(query)}" if query else path


def report_link(spec: Spec) -> str:
    """Return the address of the report of a run's decision, with its films."""
    return page_link(spec.experiment.name, "report", run_id=spec.run_id)


def version_links(experiment: str) -> dict[str, str]:
    """Return the links of a task that put a version into service."""
    return {VersionLink.__name__: page_link(experiment)}


def is_of_aws(endpoint_url: str) -> bool:
    """Whether an endpoint is one of AWS, and not of an emulator.

    >>> is_of_aws("https://ec2.eu-west-1.amazonaws.com"), is_of_aws("http://127.0.0.1:4566")
    (True, False)
    """
    return (urlsplit(endpoint_url).hostname or "").endswith(AWS_DOMAINS)


def trial_links(
    plan: RunPlan, spec: Spec, trial: str, attempt: int, instance_id: str | None, *, of_aws: bool
) -> dict[str, str]:
    """Return the links of a trial by class name, without links to missing things.

    :param of_aws: whether AWS's own console shows the account.
    """
    shown = _pages_of_trial(spec, trial, attempt)
    if of_aws:
        return _aws_links(plan, trial, attempt, instance_id) | shown
    machines = shown.get(LearningCurveLink.__name__)  # the same page lists the machines
    return shown | ({Ec2InstanceLink.__name__: machines} if machines and instance_id else {})


def _pages_of_trial(spec: Spec, trial: str, attempt: int) -> dict[str, str]:
    """The console's pages; none for replays and drills, which have no page."""
    experiment = spec.experiment.name
    if experiment in RESERVED:
        return {}
    seat = {"run_id": spec.run_id, "trial": trial, "seat": LEARNER_SEAT, "attempt": attempt}
    return {
        S3LogLink.__name__: page_link(experiment, "log", **seat),
        LearningCurveLink.__name__: page_link(experiment, "run", run_id=spec.run_id),
    }


def _aws_links(plan: RunPlan, trial: str, attempt: int, instance_id: str | None) -> dict[str, str]:
    region, trial_id = plan.own_region, TrialId(plan.experiment, plan.run, trial)
    links = {
        name: S3_CONSOLE.format(bucket=plan.bucket, region=region, prefix=prefix)
        for name, prefix in (
            (S3TrialLink.__name__, checkpoint_prefix(trial_id)),
            (S3LogLink.__name__, log_prefix(trial_id, attempt)),
        )
    }
    if instance_id is not None:
        links[Ec2InstanceLink.__name__] = EC2_CONSOLE.format(region=region, instance_id=instance_id)
    return links


def show_links(context: Context, links: dict[str, str]) -> None:
    """Push links as XComs, so that the UI shows them before the task ends."""
    for link in TRIAL_LINKS:
        if url := links.get(type(link).__name__):
            context["ti"].xcom_push(key=link.xcom_key, value=url)
