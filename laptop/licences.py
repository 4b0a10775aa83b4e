"""List the licences of all packages in our locks.

`python -m laptop licences` reads the metadata of the packages in every environment of this checkout
and writes docs/third-party-licences.md. If no environment here has a
package, its row in the page stays as it is.
"""

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions

from laptop.places import ROOT

PAGE = ROOT / "docs" / "third-party-licences.md"
#: What stands in the page for a package that was installed nowhere when the page was written.
UNKNOWN = "not read: not installed where this page was written"
_HEAD = """# Licences of the packages that Nightshift installs

`.venv/bin/python -m laptop licences` writes this page from the locks and from the metadata of the
installed packages. This repository contains none of these packages. Its own licence is in
[LICENSE](../LICENSE), and [NOTICE](../NOTICE) holds the licence of the tuned hyper-parameters.

| package | licence | in the locks |
|---|---|---|
"""
_ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$", re.M)


def write_page() -> None:
    """Write the page again."""
    PAGE.write_text(render_page(_installed_licences()))


def render_page(installed: dict[str, str]) -> str:
    """Make the page's text.

    :param installed: licences by package, which go before those of the present page.
    """
    present = PAGE.read_text() if PAGE.is_file() else ""
    known = dict(_ROW.findall(present)) | installed
    rows = [
        f"| {name} | {known.get(name, UNKNOWN)} | {', '.join(locks)} |\n"
        for name, locks in sorted(locked_packages().items())
    ]
    return _HEAD + "".join(rows)


def locked_packages() -> dict[str, list[str]]:
    """The packages of all locks, each with the names of the locks that it is in."""
    found: dict[str, list[str]] = {}
    for lock in sorted((ROOT / "locks").glob("*.txt")):
        for name in re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==", lock.read_text(), re.M):
            found.setdefault(_normal(name), []).append(lock.stem)
    return {name: sorted(set(locks)) for name, locks in found.items()}


def _installed_licences() -> dict[str, str]:
    folders = [str(path) for path in ROOT.glob(".venv*/lib/python3*/site-packages")]
    folders += [str(path) for path in ROOT.glob(".venv*/share/*")]
    return {_normal(one.name): licence_of(one) for one in distributions(path=folders)}


def licence_of(package: Distribution) -> str:
    """The licence in a package's metadata: the expression, the classifiers or a short free text."""
    metadata = package.metadata
    if expression := metadata.get_all("License-Expression"):
        return _cell(expression)
    classifiers = [
        value.rpartition(" :: ")[2]
        for value in metadata.get_all("Classifier") or []
        if value.startswith("License :: ") and value != "License :: OSI Approved"
    ]
    if classifiers:
        return _cell(classifiers)
    text = str((metadata.get_all("License") or [""])[0]).strip()
    if not text or text.upper() == "UNKNOWN":
        return "its metadata names none"
    return _cell(text.splitlines()[:1])


def _cell(words: Iterable[str]) -> str:
    return "; ".join(words).replace("|", "/")


def _normal(name: str) -> str:
    """A package's name in its normal form. See https://peps.python.org/pep-0503/."""
    return re.sub(r"[-_.]+", "-", name).lower()
