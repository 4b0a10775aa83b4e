"""Install a wheel set into this machine, of which you then make an image.

    sudo /opt/pytorch/bin/python preinstall.py BUCKET KEY SHA256

Run it with the Python that the trainer will have. `infra_bootstrap outputs` prints the three values
as `bucket` and `trainer_wheels`. Machines of the image then find the wheels installed, below this
Python's own folder, and do not install them. A machine whose run has another wheel set installs it
as on any image.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import boto3


def fetch(s3: Any, bucket: str, key: str, sha256: str) -> bytes:
    """Read a key, and check its digest."""
    data: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    if hashlib.sha256(data).hexdigest() != sha256:
        sys.exit(f"error: s3://{bucket}/{key} does not have the digest {sha256}")
    return data


def install(folder: Path, site: Path) -> int:
    """Install every wheel of a folder into `site`, and compile it, with the set's own uv."""
    with zipfile.ZipFile(next(folder.glob("uv-*.whl"))) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        (folder / "uv").write_bytes(archive.read(member))
    (folder / "uv").chmod(0o700)
    wheels = [str(path) for path in folder.glob("*.whl") if not path.name.startswith("uv-")]
    command = [str(folder / "uv"), "pip", "install", "--quiet", "--offline", "--no-index"]
    command += ["--no-deps", "--no-config", "--no-cache", "--compile-bytecode"]
    command += ["--python", sys.executable, "--target", str(site), *wheels]
    subprocess.run(command, check=True)
    return len(wheels)


def main(bucket: str, key: str, sha256: str) -> None:
    """Install the set. Its record is written last, because the start script looks for it."""
    s3, target = boto3.client("s3"), Path(sys.prefix, "nightshift", sha256)
    record = fetch(s3, bucket, key, sha256)
    wheels, here = json.loads(record), f"{sys.version_info.major}.{sys.version_info.minor}"
    if wheels["python"] != here:
        sys.exit(f"error: the wheels are for Python {wheels['python']}, and this is Python {here}")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, digest in wheels["wheels"].items():
            data = fetch(s3, bucket, f"{key.partition('/')[0]}/{digest}/{name}", digest)
            Path(folder, name).write_bytes(data)
        count = install(Path(folder), target / "site")
    (target / "wheels.json").write_bytes(record)
    sys.stdout.write(f"{count} wheels are in {target}\n")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("error: usage: preinstall.py BUCKET KEY SHA256")
    main(*sys.argv[1:])
