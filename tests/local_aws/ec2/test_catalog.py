"""The catalogue of instance types: an independent source, and the types that a table adds."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import moto.ec2
import pytest

from local_aws.ec2 import catalog
from local_aws.ec2.catalog import CATALOG, OfferedGpu, add_types, read_types
from local_aws.errors import InstanceTypesError
from rl_lifecycle.machines.instance_types import INSTANCE_TYPES, InstanceType
from tests.local_aws.conftest import run_cli

TABLE = Path(catalog.__file__).parents[2] / "lifecycle/rl_lifecycle/machines/instance_types.json"
ROW = {
    "name": "c9x.large",
    "vcpus": 2,
    "memory_gib": 4,
    "architecture": "x86_64",
    "on_demand_usd": 0.08,
    "spot_usd": 0.02,
}


def facts_of(row: InstanceType) -> tuple[int, float, str, OfferedGpu | None]:
    """Return the hardware facts of a row of the pipeline's table, in the catalogue's form."""
    gpu = row.gpu and OfferedGpu(
        row.gpu.model, row.gpu.count, row.gpu.memory_gib * 1024, row.gpu.manufacturer
    )
    return row.vcpus, row.memory_gib * 1024, row.architecture, gpu


def test_the_catalogue_and_the_pipelines_table_agree_about_the_hardware() -> None:
    """Both sources state the same hardware. Prices may differ, because the regions differ."""
    both = set(INSTANCE_TYPES) & set(CATALOG)
    assert {"c7i.large", "g5.xlarge"} <= both
    for name in both:
        entry = CATALOG[name]
        found = (entry.vcpus, entry.memory_mib, entry.architecture, entry.gpu)
        assert facts_of(INSTANCE_TYPES[name]) == found, name


def test_aws_says_of_the_same_types_that_they_encrypt_their_traffic() -> None:
    """Our list agrees with answers of AWS's DescribeInstanceTypes, which moto's authors recorded.

    AWS lists the types here, too:
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/data-protection.html#encryption-transit
    """
    path = Path(str(moto.ec2.__file__)).parent / "resources/instance_types.json.gz"
    recorded = json.loads(gzip.decompress(path.read_bytes()))
    offered = {entry.name: entry for entry in (*read_types(TABLE), *CATALOG.values())}
    assert {"c5.large", "t3.micro", "c7i.large", "g4dn.xlarge"} <= set(offered)
    ours = {
        name: entry.described()["NetworkInfo"]["EncryptionInTransitSupported"]
        for name, entry in offered.items()
    }
    assert not ours.pop("p3.2xlarge")  # moto no longer has it, and AWS's list has P3dn alone
    theirs = {name: recorded[name]["NetworkInfo"]["EncryptionInTransitSupported"] for name in ours}
    assert ours == theirs


def test_a_table_gives_the_types_that_have_a_price() -> None:
    """The types are those that the pipeline reads."""
    read = {entry.name: entry for entry in read_types(TABLE)}
    priced = {name: row for name, row in INSTANCE_TYPES.items() if row.on_demand_usd is not None}
    assert set(read) == set(priced)
    for name, row in priced.items():
        entry = read[name]
        assert (entry.vcpus, entry.memory_mib, entry.architecture, entry.gpu) == facts_of(row)
        assert entry.on_demand_usd * entry.spot_share == pytest.approx(row.spot_usd)


def test_a_table_adds_types_and_changes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalogue's own entries stay as they are."""
    monkeypatch.setattr(catalog, "CATALOG", dict(CATALOG))
    table = tmp_path / "types.json"
    table.write_text(json.dumps({"types": [ROW, {**ROW, "name": "c7i.large", "vcpus": 99}]}))
    add_types(table)
    assert catalog.CATALOG["c9x.large"].vcpus == 2
    assert catalog.CATALOG["c7i.large"].vcpus == 2
    assert "c9x.large" not in CATALOG


@pytest.mark.parametrize("text", [None, "[]", "{", '{"types": [{"name": "c9x.large"}]}'])
def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path: Path, text: str | None) -> None:
    """The file is refused before anything is started."""
    table = tmp_path / "types.json"
    if text is not None:
        table.write_text(text)
    with pytest.raises(InstanceTypesError, match="is not a table of instance types"):
        read_types(table)
    done = run_cli("up", "--instance-types", str(table), "--state", str(tmp_path / "state"))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--instance-types" in done.stderr
