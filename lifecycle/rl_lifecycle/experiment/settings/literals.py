"""Parser for the hyper-parameters that rl_zoo3 writes as Python expressions.

The text is checked against a whitelist and never executed. The whitelist holds literals, lists,
tuples, dicts, `dict(key=…)`, signs, the operators + - * / on numbers, and the names of classes in
:data:`CLASSES`. A name becomes a :class:`ClassName`; only the trainer imports the class.
"""

import ast
import difflib
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.settings.places import Place

#: The longest expression in characters. rl_zoo3's longest has about 130.
LONGEST = 10_000
ACTIVATIONS = ("ReLU", "Tanh", "ELU", "LeakyReLU", "GELU", "SiLU", "Sigmoid", "Softplus", "Mish")
OPTIMIZERS = ("Adam", "AdamW", "RMSprop", "SGD")
#: The last part of a name → the module of its class.
CLASSES: dict[str, str] = {
    **dict.fromkeys(ACTIVATIONS, "torch.nn"),
    **dict.fromkeys(OPTIMIZERS, "torch.optim"),
    "RMSpropTFLike": "stable_baselines3.common.sb2_compat.rmsprop_tf_like",
    "HerReplayBuffer": "stable_baselines3.her.her_replay_buffer",
}
#: What may stand before the last part of a name, by the module of its class.
PREFIXES = {
    "torch.nn": ("", "nn.", "th.nn.", "torch.nn."),
    "torch.optim": ("", "optim.", "th.optim.", "torch.optim."),
}
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Mult: operator.mul,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


@dataclass(frozen=True)
class ClassName:
    """A class that a hyper-parameter names.

    :param name: the name as it is written in the experiment.
    :param module: the module that has the class.
    :param class_name: the name of the class there.
    """

    name: str
    module: str
    class_name: str


def find_class(name: str) -> ClassName | None:
    """Find a class that an experiment may name. The result is None if the name is not allowed.

    >>> find_class("nn.ReLU").module, find_class("relu").class_name, find_class("os.system")
    ('torch.nn', 'ReLU', None)
    """
    prefix, last = name[: name.rfind(".") + 1], name[name.rfind(".") + 1 :]
    for known, module in CLASSES.items():
        same = last == known or (not prefix and last == known.lower())
        if same and prefix in PREFIXES.get(module, ("",)):
            return ClassName(name, module, known)
    return None


def class_refusal(
    name: str, place: Place, known: tuple[str, ...] = tuple(CLASSES)
) -> InvalidExperimentError:
    """Return the error that refuses the name of a class, with the names that are allowed."""
    if not known:
        return place.refusal(
            f"the name {name!r:.80} is not allowed, and no other name is; write a number, True, "
            "False, None or a text in quotes, or remove it"
        )
    close = difflib.get_close_matches(name.rpartition(".")[2], known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return place.refusal(f"the name {name!r:.80} is not allowed{hint}; allowed: {', '.join(known)}")


def parse_expression(text: str, place: Place, known: tuple[str, ...] = ()) -> Any:
    """Read a value such as `dict(net_arch=[256, 256], activation_fn=nn.ReLU)`.

    :param known: the classes that it may name.
    :raises InvalidExperimentError: if the text is not an expression, or uses anything outside the
        whitelist.

    >>> text = "dict(log_std_init=-2, net_arch=dict(pi=[64], vf=[64, 2 * 64]))"
    >>> parse_expression(text, Place("a.yaml", "hyperparameters.policy_kwargs"))
    {'log_std_init': -2, 'net_arch': {'pi': [64], 'vf': [64, 128]}}
    """
    if len(text) > LONGEST:
        raise place.refusal(f"has {len(text)} characters, but at most {LONGEST} are allowed")
    try:
        return _value(ast.parse(text.strip(), mode="eval").body, place, known)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise place.refusal(
            f"{text!r:.80} is not an expression such as dict(net_arch=[64, 64])"
        ) from None
    except (ArithmeticError, TypeError) as error:
        raise place.refusal(f"{text!r:.80} cannot be calculated: {error}") from None


def _value(node: ast.AST, place: Place, known: tuple[str, ...]) -> Any:
    match node:
        case ast.Constant(value=value) if value is None or isinstance(
            value, str | int | float | bool
        ):
            return value
        case ast.List(elts=elements):
            return [_value(element, place, known) for element in elements]
        case ast.Tuple(elts=elements):
            return tuple(_value(element, place, known) for element in elements)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {
                _value(k, place, known): _value(v, place, known)
                for k, v in zip(keys, values, strict=True)
                if k is not None
            }
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords) if all(
            k.arg for k in keywords
        ):
            return {str(k.arg): _value(k.value, place, known) for k in keywords}
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_number(operand, place))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_number(left, place), _number(right, place))
        case ast.Name() | ast.Attribute():
            name = ast.unparse(node)
            found = find_class(name)
            if found is None or found.class_name not in known:
                raise class_refusal(name, place, known)
            return found
    raise place.refusal(
        f"{ast.unparse(node)!r:.80} is not allowed; allowed are numbers, strings, lists, dict(…) "
        f"and names such as nn.ReLU"
    )


def _number(node: ast.AST, place: Place) -> int | float:
    value = _value(node, place, ())
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise place.refusal(f"{ast.unparse(node)!r:.80} is not a number")
    return value
