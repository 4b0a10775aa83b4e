"""The tagging service names deleted resources for a while."""

from __future__ import annotations

from pathlib import Path

import pytest

from local_aws.server.tag_memory import TagMemory, Tags
from tests.local_aws.conftest import start, unique, until

TAGS: Tags = [{"Key": "mark", "Value": "x"}]


class FakeTags:
    """The tagged queues of an account, a clock, and a memory of them."""

    def __init__(self, still_named_s: float) -> None:
        self.queues: dict[str, Tags] = {"a": TAGS, "b": TAGS}
        self.seconds = 0.0
        self.collectors = {"sqs": lambda: iter(self.queues.items())}
        self.memory = TagMemory(still_named_s, lambda: self.seconds)
        self.memory.install(self.collectors)

    def named(self) -> list[str]:
        """List what the tagging service names."""
        return sorted(arn for arn, _ in self.collectors["sqs"]())


def test_a_deleted_resource_is_named_for_a_while() -> None:
    """It is named with its tags until the time is over, and never again."""
    tags = FakeTags(5.0)
    tags.memory.before("DeleteQueue")
    del tags.queues["a"]
    assert tags.named() == ["a", "b"]
    tags.seconds = 4.9
    assert tags.named() == ["a", "b"]
    tags.seconds = 5.1
    assert tags.named() == ["b"]
    assert tags.named() == ["b"]


def test_a_resource_that_is_made_again_is_named_once() -> None:
    """A new resource of the same name is no deleted one, and its deletion counts anew."""
    tags = FakeTags(5.0)
    tags.memory.before("DeleteQueue")
    del tags.queues["a"]
    assert tags.named() == ["a", "b"]
    tags.queues["a"] = TAGS
    tags.seconds = 6.0
    assert tags.named() == ["a", "b"]
    del tags.queues["a"]
    tags.seconds = 10.0
    assert tags.named() == ["a", "b"]


@pytest.mark.parametrize("action", ["DeleteMessage", "DeleteObjects", "SendMessage"])
def test_data_is_deleted_without_a_look_at_all_tags(action: str) -> None:
    """These calls are frequent, and data has no tags."""
    tags = FakeTags(5.0)
    tags.memory.before(action)
    del tags.queues["a"]
    assert tags.named() == ["b"]


def test_without_a_lag_only_what_exists_is_named() -> None:
    """At the pace `steady` the tagging service follows at once."""
    tags = FakeTags(0.0)
    assert tags.named() == ["a", "b"]
    tags.memory.before("DeleteQueue")
    del tags.queues["a"]
    assert tags.named() == ["b"]


def test_get_resources_names_a_deleted_queue_and_then_forgets_it(own_state: Path) -> None:
    """On a local AWS of the usual pace, the answer is late after DeleteQueue."""
    aws = start(own_state)
    sqs, mark = aws.client("sqs"), unique("mark")
    url = sqs.create_queue(QueueName=unique("queue"), tags={"mark": mark})["QueueUrl"]
    sqs.delete_queue(QueueUrl=url)
    tagging = aws.client("resourcegroupstaggingapi")

    def named() -> list[str]:
        found = tagging.get_resources(TagFilters=[{"Key": "mark", "Values": [mark]}])
        return [one["ResourceARN"] for one in found["ResourceTagMappingList"]]

    assert [arn.rpartition(":")[2] for arn in named()] == [url.rpartition("/")[2]]
    until(lambda: named() == [], "the queue is forgotten", 15)
