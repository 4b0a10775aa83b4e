"""Reading files that were saved with OpenAI Gym, without Gym: its spaces are Gymnasium's under an
older name.
"""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType

#: Gym's modules that saved spaces refer to → where the same names are now.
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
    """Let `gym` mean Gymnasium while a file is unpickled; a Gym that is installed is left alone."""
    if importlib.util.find_spec("gym") is not None:
        yield
        return
    stands_in: dict[str, ModuleType] = {
        old: importlib.import_module(new) for old, new in MODULES.items()
    }
    sys.modules.update(stands_in)
    try:
        yield
    finally:
        for name in stands_in:
            sys.modules.pop(name, None)
