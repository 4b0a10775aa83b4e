"""README's first screen is short, and every file, command and test it names exists."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_the_first_screen_has_the_sentence_the_picture_the_command_and_its_output() -> None:
    """The first 40 lines hold the sentence, the picture, the command and its output."""
    first_screen = README.partition("\n## ")[0].splitlines()
    assert len(first_screen) <= 40
    assert any(line.startswith("    make demo") for line in first_screen)


def test_every_file_and_link_exists() -> None:
    """Every file and link that README names exists."""
    paths = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(
        r"`([\w./]+/[\w./-]+\.(?:py|yaml|md))`", README
    )
    assert len(paths) > 12
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_make_target_exists() -> None:
    """Every make target that README names exists."""
    targets = set(re.findall(r"make ([a-z][a-z-]*)", README))
    known = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    assert targets <= known


def test_each_promise_names_a_test_that_exists() -> None:
    """Every row of the table of guarantees names an existing test."""
    rows = re.findall(r"^\| (?!promise|---)(.+?) \| `(.+?)` \| `(.+?)` \|$", README, re.M)
    assert len(rows) >= 5
    for promise, place, test in rows:
        assert (ROOT / place).is_file(), promise
        assert (ROOT / test).is_file(), promise


def test_two_pictures_at_most_exist_and_are_small() -> None:
    """Each picture is a PNG below 150 kB, and README shows it."""
    shown = re.findall(r"!\[[^\]]+\]\((docs/pictures/[\w-]+\.png)\)", README)
    assert len(shown) <= 2
    stored = {f"docs/pictures/{path.name}" for path in (ROOT / "docs/pictures").iterdir()}
    assert stored == set(shown)
    for name in shown:
        data = (ROOT / name).read_bytes()
        assert data.startswith(b"\x89PNG"), name
        assert len(data) < 150_000, name
