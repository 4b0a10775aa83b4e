"""CONTRIBUTING.md shows every folder of every package, and a folder stays small."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "lifecycle/rl_lifecycle",
    "plugins/rl_airflow",
    "trainer/rl_trainer",
    "evaluator/rl_evaluator",
    "infra_bootstrap",
    "airflow_image",
    "local_aws",
    "laptop",
)
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
MOST_MODULES = 15


def folders_in_the_page() -> list[str]:
    """The folders in the tree of the page, as paths of the repository."""
    tree = PAGE.split("```text\n")[1].split("```")[0]
    found, package = [], ""
    for line in tree.splitlines():
        indent, name, sentence = re.fullmatch(r"( *)(\S+)/ +(\S.+)", line).groups()  # type: ignore[union-attr]
        assert sentence
        package = package if indent else name
        found.append(f"{package}/{name}" if indent else name)
    return found


def folders_of(package: str) -> list[str]:
    """A package and its folders that hold files of the repository."""
    inside = [path for path in (ROOT / package).rglob("*") if path.is_dir()]
    with_files = [
        path
        for path in inside
        if "__pycache__" not in path.parts and any(file.is_file() for file in path.iterdir())
    ]
    return [package, *(str(path.relative_to(ROOT)) for path in with_files)]


def test_the_page_shows_every_folder_of_every_package_and_no_other() -> None:
    """If this fails, adapt the tree in CONTRIBUTING.md."""
    existing = [folder for package in PACKAGES for folder in folders_of(package)]
    assert sorted(folders_in_the_page()) == sorted(existing)


def test_no_folder_of_a_package_has_too_many_modules() -> None:
    """If this fails, split the folder into two subjects."""
    modules = {
        folder: len([file for file in (ROOT / folder).glob("*.py") if file.name != "__init__.py"])
        for package in PACKAGES
        for folder in folders_of(package)
    }
    assert {name: count for name, count in modules.items() if count > MOST_MODULES} == {}


def test_every_path_in_the_page_exists() -> None:
    """A path that moved is found here."""
    paths = re.findall(r"`([a-z_]\w*/[\w./-]+)`", PAGE)
    assert len(paths) > 12
    assert [path for path in paths if not (ROOT / path).exists()] == []
