"""Load files that were saved with OpenAI Gym, without Gym installed.

Models saved before Gymnasium existed contain spaces of the package `gym`. Gymnasium has the same
classes under the same names, so it can replace `gym` while such a file is loaded.
"""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType

#: Gym's modules that saved spaces refer to → Gymnasium's modules with the same names.
MODULES = {
    "gym": "gymnasium",
    "gym.spaces": "gymnasium.spaces",
    "gym.utils": "gymnasium.utils",
    "gym.utils.seeding": "gymnasium.utils.seeding",
    **{
        f"gym.spaces.{name}": f"gymnasium.spaces.{name}"
        for name in ("box", "dict", "discrete", "multi_binary", "multi_discrete", "space", "tuple")
    },
}


@contextlib.contextmanager
def gym_stands_for_gymnasium() -> Iterator[None]:
    """Make `import gym` give Gymnasium within the `with` block.

    If Gym is installed, nothing changes, because the file can then be loaded with Gym itself.
    """
    if importlib.util.find_spec("gym") is not None:
        yield
        return

    replacements: dict[str, ModuleType] = {
        old: importlib.import_module(new) for old, new in MODULES.items()
    }
    sys.modules.update(replacements)
    try:
        yield
    finally:
        for name in replacements:
            sys.modules.pop(name, None)
