"""The experiment file: what a user wants to train, checked against its schema alone.

:mod:`rl_lifecycle.experiment.files` reads the YAML. This module turns the parsed mapping into an
:class:`Experiment`. If a key is wrong, the error names the key and what is allowed. Only Airflow
uses the schedules, so `rl_airflow.run.schedules` checks them.
"""

import difflib
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.algorithms import ALGORITHMS, algorithm_names
from rl_lifecycle.experiment.compute_settings import GRAPHS_REMOVED_IN, Compute
from rl_lifecycle.experiment.evaluation_settings import (
    EarlyStop,
    Evaluation,
    GateSettings,
    Perturbation,
    Scenario,
)
from rl_lifecycle.experiment.gate_settings import (
    ALPHA_SHARES,
)
from rl_lifecycle.experiment.settings.shards import read_shards
from rl_lifecycle.experiment.settings.time_limits import with_whole_limit
from rl_lifecycle.records.names import is_slug, slug
from rl_lifecycle.records.record import Record

#: Characters of a scenario's name. It is part of the names of evaluations, which have at most 100.
LONGEST_SCENARIO = 60
ENV_ID = re.compile(r"([A-Za-z_][\w.]*:)?([\w-]+/)?[\w.-]+")


class Experiment(Record):
    """An experiment: an environment, an algorithm, a budget and a gate.

    Its name is the stem of its file.
    """

    name: str
    env_id: str
    env_kwargs: dict[str, JsonValue] = {}
    requirements: tuple[str, ...] = Field(
        (), description="wheels of the environment, as paths relative to the experiment file"
    )
    algo: str
    total_timesteps: int = Field(ge=1, le=10**11)
    hyperparameters: Literal["zoo"] | dict[str, JsonValue] = "zoo"
    trials: int = Field(3, ge=1, le=100)
    seed: int = Field(0, ge=0, lt=2**31)
    reseed: bool = Field(True, description="false: the same seeds every night")
    init_from: Literal["scratch", "champion"] = "scratch"
    init_optimizer: Literal["fresh", "champion"] = Field(
        "fresh",
        description="champion: start with its optimizer's state, too; needs init_from: champion",
    )
    checkpoint_every: int = Field(
        200_000, ge=1, description="env steps of a segment, rounded to whole rollouts"
    )
    # It is left out while it is `auto`, so that earlier specs keep their digest.
    shards: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1)], BeforeValidator(read_shards)
    ] = Field(
        "auto",
        description="groups of environments that are collected on their own, for on-policy "
        "algorithms; auto: 1",
        exclude_if=lambda value: value == "auto",
    )
    schedule: str | None = Field("0 2 * * *", description="cron, in UTC; null: only by hand")
    compute: Compute = Compute()
    evaluation: Evaluation
    gate: GateSettings = GateSettings()
    early_stop: EarlyStop = EarlyStop()
    replay_schedule: str | None = Field(
        None, description="cron, in UTC, of replays of the champion; null: only by hand"
    )
    replay_segments: int = Field(
        1, ge=1, le=32, description="after how many segments a replay is compared"
    )
    # It is left out while it is false, so that earlier specs keep their digest.
    replay_must_compare: bool = Field(
        False,
        description="whether a replay fails if its machine is of another numeric class, so that "
        "its digest says nothing; false: it is skipped",
        exclude_if=lambda value: not value,
    )
    approval: bool = False
    approval_hours: float = Field(
        12,
        gt=0,
        le=168,
        description="hours that a person has to approve; without an answer nothing is promoted",
    )

    @field_validator("name")
    @classmethod
    def _name_is_slug(cls, name: str) -> str:
        if not is_slug(name):
            raise ValueError(f"the file must be named in lower case, digits, - and _, not {name!r}")
        return name

    @field_validator("algo")
    @classmethod
    def _algo_is_known(cls, algo: str) -> str:
        if algo not in ALGORITHMS:
            known = algorithm_names()
            raise ValueError(
                f"unknown algorithm {algo!r}{_did_you_mean(algo, known)}; known: {', '.join(known)}"
            )
        return algo

    @field_validator("env_id")
    @classmethod
    def _env_id_has_form(cls, env_id: str) -> str:
        if not ENV_ID.fullmatch(env_id):
            raise ValueError(
                f"{env_id!r} is no Gymnasium id such as LunarLander-v3 or package:Env-v0"
            )
        return env_id

    @field_validator("schedule", "replay_schedule")
    @classmethod
    def _strip_schedule(cls, schedule: str | None) -> str | None:
        return schedule.strip() if schedule is not None else None

    @model_validator(mode="after")
    def _optimizer_has_parameters(self) -> Self:
        if self.init_optimizer == "champion" and self.init_from != "champion":
            raise ValueError("init_optimizer: champion needs init_from: champion, not scratch")
        return self

    @model_validator(mode="after")
    def _margin_fits_the_range(self) -> Self:
        low, high = self.evaluation.return_range
        if abs(self.gate.margin) >= high - low:
            raise ValueError(
                "gate.margin must be smaller than the width of evaluation.return_range, "
                f"{high - low:g}"
            )
        return self

    @model_validator(mode="after")
    def _early_stop_fits_the_range(self) -> Self:
        low, high = self.evaluation.return_range
        for key in ("target_above", "hopeless_below"):
            line = getattr(self.early_stop, key)
            if line is not None and not low <= line <= high:
                raise ValueError(
                    f"early_stop.{key} must lie within evaluation.return_range [{low:g}, "
                    f"{high:g}], not {line:g}"
                )
        return self

    @model_validator(mode="after")
    def _gate_can_promote(self) -> Self:
        # Without a single crash on either side the guard's p value after n pairs is (1 -
        # crash_margin)^n.
        needed = math.ceil(
            math.log(self.gate.alpha * ALPHA_SHARES[-1]) / math.log(1 - self.gate.crash_margin)
        )
        if self.evaluation.max_pairs < needed:
            raise ValueError(
                f"evaluation.max_pairs {self.evaluation.max_pairs} could never promote anything: "
                "with gate.alpha "
                f"{self.gate.alpha:g} and gate.crash_margin {self.gate.crash_margin:g} it takes "
                f"at least {needed} pairs"
            )
        return self

    def without_due_time(self) -> Self:
        """The same experiment without `compute.needed_by`, for a run that has no due time."""
        return self._with_compute(self.compute.without_due_time())

    def with_one_machine(self) -> Self:
        """The same experiment, with one machine for each trial."""
        return self._with_compute(self.compute.with_one_machine())

    def with_instance_types(self, instance_types: tuple[str, ...]) -> Self:
        """The same experiment on machines of these types."""
        return self._with_compute(self.compute.with_instance_types(instance_types))

    def as_replay(self, name: str) -> Self:
        """The same training for one trial on one machine, without approval and early stop.

        How many machines train it changes no byte.

        :param name: the name of the experiment that replays belong to.
        """
        return self.with_one_machine().model_copy(
            update={"name": name, "trials": 1, "approval": False, "early_stop": EarlyStop()}
        )

    def _with_compute(self, compute: Compute) -> Self:
        return self.model_copy(update={"compute": compute})


def read_experiment(document: object, name: str, source: str | None = None) -> Experiment:
    """Check a parsed experiment file.

    :param document: the content of the YAML file.
    :param name: the stem of the file.
    :param source: the file's name in error messages. None means `experiments/<name>.yaml`.
    :raises InvalidExperimentError: with the first key that is wrong, and what is allowed there.
    """
    source = source or f"experiments/{name}.yaml"
    if not isinstance(document, Mapping):
        raise InvalidExperimentError(
            source, "", "must hold a mapping of keys such as env_id, algo and evaluation"
        )
    _refuse_removed(document, source)
    _check_scenario_names(document, source)
    try:
        experiment = Experiment.model_validate(
            {**_with_whole_limits(document, "evaluation", "scenarios", "*"), "name": name}
        )
    except RecursionError:
        raise InvalidExperimentError(source, "", "is nested too deeply, or holds itself") from None
    except ValidationError as error:
        key, problem = _explain(error)
        raise InvalidExperimentError(source, key, problem) from None
    _refuse_mixed_switches(document, experiment, source)
    return experiment


def _with_whole_limits(given: object, *inside: str) -> Any:
    """Write whole time limits as whole numbers, among the arguments of the environment.

    This is done for new experiments only, because stored ones keep their bytes.

    :param inside: keys whose mappings have `env_kwargs`, too; `*` stands for every key.
    """
    if not isinstance(given, Mapping):
        return given
    read = dict(given)
    if isinstance(read.get("env_kwargs"), Mapping):
        read["env_kwargs"] = with_whole_limit(read["env_kwargs"])
    for key in read if inside[:1] == ("*",) else inside[:1]:
        if key in read:
            read[key] = _with_whole_limits(read[key], *inside[1:])
    return read


def _refuse_mixed_switches(given: object, value: object, source: str, key: str = "") -> None:
    """Refuse `yes` for a number, and a number or a text for `true` or `false`.

    pydantic converts them, and an author never means that. A number in quotes stays allowed,
    because its meaning is clear.

    :param given: what the file says
    :param value: what pydantic made from it
    :raises InvalidExperimentError: with the key and what is allowed.
    """
    if isinstance(value, Record | dict) and isinstance(given, Mapping):
        for name, inner in value.items() if isinstance(value, dict) else value:
            _refuse_mixed_switches(given.get(name), inner, source, f"{key}.{name}".lstrip("."))
    elif isinstance(value, tuple) and isinstance(given, list):
        for one, inner in zip(given, value, strict=True):
            _refuse_mixed_switches(one, inner, source, key)
    elif isinstance(value, bool) and not isinstance(given, bool | None):
        raise InvalidExperimentError(
            source, key, f"must be true or false, without quotes, not {given!r:.80}"
        )
    elif isinstance(given, bool) and not isinstance(value, bool):
        raise InvalidExperimentError(source, key, f"must be a number, not {str(given).lower()}")


def _refuse_removed(document: Mapping[Any, object], source: str) -> None:
    """Refuse settings that only stored specs may have.

    :raises InvalidExperimentError: with what to do.
    """
    compute = document.get("compute")
    if isinstance(compute, Mapping) and compute.get("gpu_updates", "sb3") != "sb3":
        raise InvalidExperimentError(
            source,
            "compute.gpu_updates",
            f"cuda_graphs was removed in release {GRAPHS_REMOVED_IN}: delete this line, and SB3's "
            "own updates train",
        )


def _check_scenario_names(document: Mapping[Any, object], source: str) -> None:
    """Refuse names of scenarios whose evaluations would have no name, or the same name.

    Stored specs of earlier releases may have other names, so the model allows them.

    :raises InvalidExperimentError: with what is allowed.
    """
    evaluation = document.get("evaluation")
    scenarios = evaluation.get("scenarios") if isinstance(evaluation, Mapping) else None
    seen: dict[str, str] = {}
    for name in scenarios if isinstance(scenarios, Mapping) else ():
        if not isinstance(name, str) or not 0 < len(name.strip()) == len(name) <= LONGEST_SCENARIO:
            problem = f"must have a name of 1 to {LONGEST_SCENARIO} characters"
        elif not name.isprintable():
            problem = "must have a name without line breaks and control characters"
        elif slug(name) in seen:
            problem = f"needs another name, because {seen[slug(name)]!r} gives the same one in keys"
        else:
            seen[slug(name)] = name
            continue
        raise InvalidExperimentError(
            source, "evaluation.scenarios", f"the scenario {name!r:.80} {problem}"
        )


def _explain(error: ValidationError) -> tuple[str, str]:
    """Convert pydantic's first problem to a key and a sentence for the author of the file."""
    found = sorted(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")[0]
    path = [
        str(part)
        for part in found["loc"]
        if not str(part).startswith(("literal[", "tuple[", "dict["))
    ]
    key = ".".join(path)
    if found["type"] == "extra_forbidden":
        allowed = _fields_at(path[:-1])
        return (
            key,
            f"unknown key{_did_you_mean(path[-1], allowed)}; allowed here: {', '.join(allowed)}",
        )
    if path[:1] == ["hyperparameters"]:
        return path[0], "must be `zoo`, or a mapping of rl_zoo3's keys, its numbers finite"
    if found["type"] == "missing":
        return key, f"is missing{_meaning(key)}"
    message = str(found["msg"]).removeprefix("Value error, ")
    value = found.get("input")
    shown = (
        f", not {value!r}"
        if isinstance(value, str | int | float | bool) and not _shows(message, value)
        else ""
    )
    return key, message[0].lower() + message[1:] + shown


def _shows(message: str, value: object) -> bool:
    """Tell whether a message quotes a value: the 0 of `1024` does not."""
    return bool(re.search(rf"(?<![\w.]){re.escape(repr(value))}(?!\w|\.\d)", message))


_MEANING = {
    "evaluation": "; it needs return_range and crash_below",
    "evaluation.return_range": "; it must be [lowest, highest] return of an episode: anything "
    "below the lowest counts "
    "as equally bad, so choose the tightest honest floor before seeing any return",
    "evaluation.crash_below": "; it must be the return below which an episode counts as failed",
    "env_id": "; it must be a Gymnasium id such as LunarLander-v3",
    "total_timesteps": "; it must be the number of environment steps to train for",
}


def _meaning(key: str) -> str:
    """Describe the value of a missing key. It is empty if the key's name is enough."""
    if key == "algo":
        return f"; it must be one of {', '.join(algorithm_names())}"
    return _MEANING.get(key, "")


def _fields_at(path: list[str]) -> list[str]:
    """The keys that are allowed at a place of the file."""
    sections: dict[str, type[Record]] = {
        "compute": Compute,
        "evaluation": Evaluation,
        "gate": GateSettings,
        "early_stop": EarlyStop,
    }
    if not path:
        return sorted(set(Experiment.model_fields) - {"name"})
    if path[0] == "evaluation" and len(path) == 4 and path[3] == "perturbation":
        return sorted(Perturbation.model_fields)
    if path[0] == "evaluation" and len(path) == 3:
        return sorted(Scenario.model_fields)
    return sorted(sections[path[0]].model_fields) if path[0] in sections else []


def _did_you_mean(word: str, known: tuple[str, ...] | list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
