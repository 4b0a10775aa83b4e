"""Build the wheels of our own packages, in milliseconds and without network.

They are pure Python, and a build gives the same bytes each time.

Source: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

import base64
import hashlib
import tomllib
from pathlib import Path
from typing import NamedTuple

from infra_bootstrap.artifacts.archives import Entry, package_entries, zip_bytes
from infra_bootstrap.errors import BuildFailedError


class BuiltWheel(NamedTuple):
    """A wheel in memory."""

    file_name: str
    data: bytes

    @property
    def sha256(self) -> str:
        """The digest of its bytes, which is a part of its key."""
        return hashlib.sha256(self.data).hexdigest()


def build_wheel(project: Path) -> BuiltWheel:
    """Build the wheel of a folder that has a pyproject.toml and one package.

    `tool.uv.build-backend.module-name` names the package. The default is the project's name.

    :raises BuildFailedError: if the folder has no such project.
    """
    try:
        document = tomllib.loads((project / "pyproject.toml").read_text())
        metadata = document["project"]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise BuildFailedError(
            f"wheel of {project.name}", f"{project.name}/pyproject.toml cannot be read ({error})"
        ) from None
    name, version = metadata["name"].replace("-", "_"), metadata["version"]
    module = (
        document.get("tool", {}).get("uv", {}).get("build-backend", {}).get("module-name", name)
    )
    entries = list(package_entries(project / module))
    if not entries:
        raise BuildFailedError(
            f"wheel of {project.name}", f"{project.name}/{module} is not a package"
        )
    folder = f"{name}-{version}.dist-info"
    licenses = _license_files(project, metadata)
    entries += [
        Entry(f"{folder}/METADATA", _metadata(metadata, licenses)),
        Entry(f"{folder}/WHEEL", _WHEEL),
        *(Entry(f"{folder}/licenses/{path.name}", path.read_bytes()) for path in licenses),
    ]
    entries.append(Entry(f"{folder}/RECORD", _record(entries, folder)))
    return BuiltWheel(f"{name}-{version}-py3-none-any.whl", zip_bytes(entries))


_WHEEL = b"Wheel-Version: 1.0\nGenerator: nightshift\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def _license_files(project: Path, metadata: dict[str, object]) -> list[Path]:
    """List the files that `license-files` names, in order. See https://peps.python.org/pep-0639/."""
    patterns = metadata.get("license-files", [])
    if not isinstance(patterns, list):
        return []
    return sorted({path for pattern in patterns for path in project.glob(pattern)})


def _metadata(project: dict[str, object], licenses: list[Path]) -> bytes:
    lines = ["Metadata-Version: 2.4", f"Name: {project['name']}", f"Version: {project['version']}"]
    lines += [f"Summary: {project['description']}"] if "description" in project else []
    lines += (
        [f"Requires-Python: {project['requires-python']}"] if "requires-python" in project else []
    )
    lines += [f"License-Expression: {project['license']}"] if "license" in project else []
    lines += [f"License-File: {path.name}" for path in licenses]
    required = project.get("dependencies", [])
    lines += (
        [f"Requires-Dist: {requirement}" for requirement in required]
        if isinstance(required, list)
        else []
    )
    return ("\n".join(lines) + "\n").encode()


def _record(entries: list[Entry], folder: str) -> bytes:
    def line(entry: Entry) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(entry.data).digest()).rstrip(b"=").decode()
        return f"{entry.name},sha256={digest},{len(entry.data)}"

    return (
        "\n".join([*(line(entry) for entry in sorted(entries)), f"{folder}/RECORD,,"]) + "\n"
    ).encode()
