"""The one reader of experiment files, so that a file means the same for every package.

This is the only module of the package that imports yaml, and it does so only when it reads a file.
Everything else works without yaml.
"""

import functools
import re
import stat
from pathlib import Path
from typing import Any

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.experiment import Experiment, read_experiment

#: Numbers of YAML 1.2 that YAML 1.1 reads as text.
EXPONENT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")
#: The largest file. Ours have 2 KB. Airflow reads every file twice a minute.
LARGEST_BYTES = 64 * 1024
#: The deepest nesting. Ours is 3.
MOST_LEVELS = 50
#: The most values in a file. An alias counts as all values that it stands for, because whatever
#: checks, stores or prints the experiment meets each of them.
MOST_VALUES = 10_000
#: The endings of experiment files.
SUFFIXES = (".yaml", ".yml")


def read_experiment_file(path: Path, source: str | None = None) -> Experiment:
    """Read and check an experiment file. The stem of the file is the experiment's name.

    :param source: the file's name in error messages. None means its path.
    :raises InvalidExperimentError: if the file cannot be read, is not YAML, has a key twice, or has
        a value that is not allowed.
    """
    source = source or str(path)
    return read_experiment(parse_yaml(read_text(path, source), source), path.stem, source)


def read_text(path: Path, source: str, errors: str = "strict") -> str:
    """Read a file of a limited size. A device or a pipe is not opened: reading it may never end.

    :param errors: what to do with bytes that are not UTF-8, as in `bytes.decode`.
    :raises InvalidExperimentError: if the file cannot be read or is too large.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidExperimentError(source, "", "cannot be read: it is not a file")
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
        if len(data) > LARGEST_BYTES:
            raise InvalidExperimentError(
                source, "", f"is larger than the {LARGEST_BYTES // 1024} KiB that it may have"
            )
        return data.decode("utf-8", errors)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidExperimentError(source, "", f"cannot be read: {reason}") from None


def parse_yaml(text: str, source: str) -> object:
    """Parse YAML, without the tags that could run code.

    YAML silently uses the last of two equal keys. A budget that is written twice would be
    dangerous, so equal keys are refused.

    :param source: the text's name in error messages.
    :raises InvalidExperimentError: with the line, or with the key that is written twice and its
        second line.
    """
    import yaml

    loader = None
    try:
        _refuse_depth(text, source)
        loader = _loader_class()(text)
        node = loader.get_single_node()
        if _count_values(node, {}) > MOST_VALUES:
            raise InvalidExperimentError(
                source, "", f"has more than the {MOST_VALUES:,} values that it may have"
            )
        _refuse_duplicates(node, source, set())
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or error
        raise InvalidExperimentError(source, where, f"is not YAML: {problem}") from None
    except RecursionError:
        raise InvalidExperimentError(source, "", "is nested too deeply") from None
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        # PyYAML's constructors raise these for values that their tag does not allow.
        raise InvalidExperimentError(
            source, "", f"holds a value that is not YAML: {' '.join(str(error).split())}"
        ) from None
    finally:
        if loader is not None:
            loader.dispose()


@functools.cache
def _loader_class() -> Any:
    """Return PyYAML's safe loader, which also reads `1e-5` as a number.

    PyYAML follows YAML 1.1, where such a number is text without a dot and a sign. Source:
    https://yaml.org/spec/1.2.2/#1032-tag-resolution
    """
    import yaml

    kind: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where it was built in
    made: Any = type("ExperimentLoader", (kind,), {})
    made.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))
    return made


def _refuse_depth(text: str, source: str) -> None:
    """Refuse deep nesting before the loader, which would descend into it.

    PyYAML's loader with libyaml calls itself for each level, without a limit. Some ten thousand
    levels end the whole process by a segmentation fault. Reading the events needs no such calls.
    Source: `_compose_node` in yaml/_yaml.pyx of PyYAML.
    """
    import yaml

    loader, levels = _loader_class()(text), 0
    try:
        while loader.check_event() and levels <= MOST_LEVELS:
            event = loader.get_event()
            levels += isinstance(event, yaml.CollectionStartEvent)
            levels -= isinstance(event, yaml.CollectionEndEvent)
    finally:
        loader.dispose()
    if levels > MOST_LEVELS:
        raise InvalidExperimentError(source, "", f"has more than {MOST_LEVELS} levels of nesting")


def _count_values(node: object, known: dict[int, int]) -> int:
    """Count the values of a node, as if every alias were written out.

    :param known: the counts of nodes that were met before. A node that holds itself counts once.
    """
    import yaml

    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = 1
        pairs = node.value if isinstance(node, yaml.MappingNode) else [(one,) for one in node.value]
        known[id(node)] += sum(_count_values(one, known) for pair in pairs for one in pair)
    return known[id(node)]


def _refuse_duplicates(node: object, source: str, seen: set[int]) -> None:
    """Check a node and all nodes below it.

    :param seen: the nodes that are checked already, because aliases may form a circle.
    """
    import yaml

    if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
        return
    seen.add(id(node))
    keys: set[str] = set()
    for item in node.value:
        if not isinstance(node, yaml.MappingNode):
            _refuse_duplicates(item, source, seen)
            continue
        key, value = item
        if isinstance(key.value, str) and key.value in keys:
            line = key.start_mark.line + 1
            raise InvalidExperimentError(
                source, key.value, f"is written twice (again in line {line})"
            )
        keys.add(str(key.value))
        _refuse_duplicates(value, source, seen)
