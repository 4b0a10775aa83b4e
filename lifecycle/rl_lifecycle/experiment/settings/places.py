"""The place of a value in an experiment, for the sentence that refuses the value."""

from dataclasses import dataclass
from typing import Self

from rl_lifecycle.errors import InvalidExperimentError


@dataclass(frozen=True)
class Place:
    """A key of an experiment.

    :param source: the file or object that holds the value.
    :param key: dotted path of the key, such as `hyperparameters.normalize.clip_obs`.
    """

    source: str
    key: str

    def at(self, name: object) -> Self:
        """Return the place of a key below this one.

        >>> Place("a.yaml", "hyperparameters").at("n_steps").key
        'hyperparameters.n_steps'
        """
        shown = str(name) if str(name).isprintable() else repr(name)
        return type(self)(self.source, f"{self.key}.{shown:.80}")

    def refusal(self, problem: str) -> InvalidExperimentError:
        """Return the error that refuses the value."""
        return InvalidExperimentError(self.source, self.key, " ".join(problem.split()))
