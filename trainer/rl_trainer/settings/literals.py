"""Parser for the hyper-parameters that rl_zoo3 writes as Python expressions.

The text is checked against a whitelist and never executed. The whitelist holds literals, lists,
tuples, dicts, `dict(key=…)`, signs, the operators + - * / on numbers, and the names in
:data:`NAMES`.
"""

import ast
import importlib
import operator
from collections.abc import Callable
from typing import Any

from rl_trainer.errors import BadInputError

#: The names that an expression may use, and the Python object behind each name.
NAMES: dict[str, str] = {
    **{
        f"{prefix}.{name}": f"torch.nn.{name}"
        for prefix in ("nn", "th.nn", "torch.nn")
        for name in (
            "ReLU",
            "Tanh",
            "ELU",
            "LeakyReLU",
            "GELU",
            "SiLU",
            "Sigmoid",
            "Softplus",
            "Mish",
        )
    },
    **{
        f"{prefix}.{name}": f"torch.optim.{name}"
        for prefix in ("optim", "th.optim", "torch.optim")
        for name in ("Adam", "AdamW", "RMSprop", "SGD")
    },
    "RMSpropTFLike": "stable_baselines3.common.sb2_compat.rmsprop_tf_like.RMSpropTFLike",
    "HerReplayBuffer": "stable_baselines3.her.her_replay_buffer.HerReplayBuffer",
}
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Mult: operator.mul,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def parse_expression(text: str, key: str) -> Any:
    """Read a value such as `dict(net_arch=[256, 256], activation_fn=nn.ReLU)`.

    :param key: the hyper-parameter that has this value; it appears in the error message.
    :raises BadInputError: if the text is not an expression, or uses anything outside the whitelist.

    >>> text = "dict(log_std_init=-2, net_arch=dict(pi=[64], vf=[64, 2 * 64]))"
    >>> parse_expression(text, "policy_kwargs")
    {'log_std_init': -2, 'net_arch': {'pi': [64], 'vf': [64, 128]}}
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError:
        raise BadInputError(
            f"hyperparameters.{key}: {text!r} is not an expression such as dict(net_arch=[64, 64])"
        ) from None
    return _value(tree.body, key)


def _value(node: ast.AST, key: str) -> Any:
    match node:
        case ast.Constant(value=value) if value is None or isinstance(
            value, str | int | float | bool
        ):
            return value
        case ast.List(elts=elements):
            return [_value(element, key) for element in elements]
        case ast.Tuple(elts=elements):
            return tuple(_value(element, key) for element in elements)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {
                _value(k, key): _value(v, key)
                for k, v in zip(keys, values, strict=True)
                if k is not None
            }
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords) if all(
            k.arg for k in keywords
        ):
            return {str(k.arg): _value(k.value, key) for k in keywords}
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_number(operand, key))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_number(left, key), _number(right, key))
        case ast.Name() | ast.Attribute():
            return _named(ast.unparse(node), key)
    raise BadInputError(
        f"hyperparameters.{key}: {ast.unparse(node)!r} is not allowed; allowed are numbers, "
        f"strings, lists, dict(…) and {', '.join(sorted(NAMES)[:6])} …"
    )


def _number(node: ast.AST, key: str) -> int | float:
    value = _value(node, key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInputError(f"hyperparameters.{key}: {ast.unparse(node)!r} is not a number")
    return value


def _named(name: str, key: str) -> Any:
    target = NAMES.get(name)
    if target is None:
        raise BadInputError(
            f"hyperparameters.{key}: the name {name!r} is not allowed; allowed are "
            f"{', '.join(sorted(NAMES))}"
        )
    module, _, attribute = target.rpartition(".")
    return getattr(importlib.import_module(module), attribute)
