"""The links of tasks to the console work wherever Airflow is."""

from urllib.parse import parse_qs, urljoin, urlsplit

import pytest

from rl_airflow.run.links import is_of_aws, page_link, report_link
from tests.plugins.worlds import World


@pytest.mark.parametrize("base", ["https://airflow.test/", "https://airflow.test/team/a/"])
def test_a_link_keeps_airflows_base_path(base: str) -> None:
    """A browser resolves it against the base address that Airflow's pages name."""
    spec = World().spec.model_copy(update={"run_id": "scheduled__2026-12-01T02:00:00+00:00"})
    found = urlsplit(urljoin(base, report_link(spec)))
    assert found.geturl().startswith(f"{base}plugin/nightshift/retrain_{spec.experiment.name}/")
    assert parse_qs(found.query) == {"run_id": [spec.run_id]}


def test_a_run_id_cannot_change_the_address() -> None:
    """People choose run ids."""
    link = page_link("cartpole", "log", run_id="a&trial=b#../c", trial="seed-0")
    assert parse_qs(urlsplit(link).query) == {"run_id": ["a&trial=b#../c"], "trial": ["seed-0"]}
    assert urlsplit(link).path == "plugin/nightshift/retrain_cartpole/log"


@pytest.mark.parametrize(
    ("endpoint_url", "expected"),
    [
        ("https://ec2.eu-west-1.amazonaws.com", True),
        ("https://ec2.cn-north-1.amazonaws.com.cn", True),
        ("https://vpce-1-2.ec2.eu-west-1.vpce.amazonaws.com", True),
        ("http://127.0.0.1:4566", False),
        ("http://localhost.localstack.cloud:4566", False),
        ("https://amazonaws.com.evil.test", False),
    ],
)
def test_only_aws_itself_has_awss_console(endpoint_url: str, expected: bool) -> None:
    """A link from an emulator would open another account."""
    assert is_of_aws(endpoint_url) is expected
