"""The glossary gives each word one meaning, and each class name stands for one class."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The folder in which each package lies.
PACKAGES = {
    "rl_lifecycle": "lifecycle",
    "rl_trainer": "trainer",
    "rl_evaluator": "evaluator",
    "rl_airflow": "plugins",
    "infra_bootstrap": ".",
    "local_aws": ".",
    "laptop": ".",
}
#: Class names that several packages define, and why.
SHARED_NAMES = {
    "BadInputError": "the trainer's and the deployment's exit code for bad input",
    "EnvironmentFailedError": "the trainer and the evaluator must not import each other",
    "OneLineParser": "the local AWS must not import our packages",
}


def _rows() -> list[tuple[str, str, str]]:
    text = (ROOT / "docs/glossary.md").read_text()
    rows = re.findall(r"^\| ([a-z][a-z ]*) \| (.+) \| `([\w.]+)` \|$", text, re.M)
    assert len(rows) == sum(line.startswith("| ") for line in text.splitlines()) - 2, (
        "each row of docs/glossary.md must be: | word | meaning | `module` |"
    )
    return rows


def test_the_glossary_is_sorted_and_names_each_word_once() -> None:
    """A reader finds a word by its place in the alphabet."""
    words = [word for word, _, _ in _rows()]
    assert {"experiment", "run", "trial", "attempt", "candidate", "champion"} <= set(words)
    assert words == sorted(set(words))


def test_each_meaning_is_one_or_two_plain_sentences() -> None:
    """A meaning begins with a capital letter, ends with a full stop and is short."""
    for word, meaning, _ in _rows():
        sentences = re.split(r"(?<=\.) (?=[A-Z])", meaning)
        assert len(sentences) <= 2, f"{word}: write at most two sentences"
        assert re.fullmatch(r"[A-Z].+\.", meaning), f"{word}: write whole sentences"


def test_each_module_of_the_glossary_exists() -> None:
    """The last column is an address, so it must not be out of date."""
    for word, _, module in _rows():
        folder = PACKAGES[module.partition(".")[0]]
        file = ROOT / folder / (module.replace(".", "/") + ".py")
        assert file.is_file(), f"docs/glossary.md, {word}: there is no module {module}"


def test_no_class_name_is_defined_twice() -> None:
    """A class name that stands for two things must be explained in SHARED_NAMES, or renamed."""
    defined: dict[str, list[str]] = defaultdict(list)
    for package, folder in PACKAGES.items():
        for file in sorted((ROOT / folder / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef):
                    defined[node.name].append(str(file.relative_to(ROOT)))

    assert len(defined) > 100
    twice = {name: files for name, files in defined.items() if len(files) > 1}
    assert set(twice) == set(SHARED_NAMES), (
        f"rename one of the classes of the same name: {twice}, "
        f"or remove names that are no longer shared from SHARED_NAMES: {sorted(SHARED_NAMES)}"
    )
    for name, files in twice.items():
        packages = {file.split("/rl_")[0].split("/")[0] for file in files}
        assert len(packages) == len(files), f"{name} is defined twice in one package: {files}"
