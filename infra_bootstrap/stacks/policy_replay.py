"""Replay a denied call through a role's policies in our templates, and name what did not match.

This is no policy engine. It knows the elements and the operators that our identity template uses.
A test compares both. It needs no permission and no call to AWS.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

Context = Mapping[str, Sequence[str]]
Statement = Mapping[str, Any]


def _number(test: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    def compare(actual: str, wanted: str) -> bool:
        try:
            return test(float(actual), float(wanted))
        except ValueError:
            return False

    return compare


#: The operators of conditions: whether one value of the request matches one value of the policy.
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda actual, wanted: actual == wanted,
    "StringLike": fnmatchcase,
    "ArnEquals": fnmatchcase,
    "ArnLike": fnmatchcase,
    "Bool": lambda actual, wanted: actual.lower() == wanted.lower(),
    "NumericEquals": _number(lambda actual, wanted: actual == wanted),
    "NumericLessThan": _number(lambda actual, wanted: actual < wanted),
    "NumericLessThanEquals": _number(lambda actual, wanted: actual <= wanted),
    "NumericGreaterThan": _number(lambda actual, wanted: actual > wanted),
    "NumericGreaterThanEquals": _number(lambda actual, wanted: actual >= wanted),
}
#: The operators that are true if no value of the policy matches.
NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}


def replay(
    statements: Sequence[Statement], action: str, resource: str, context: Context
) -> list[str]:
    """Say why no statement allows a call. The list is empty if one does.

    :param statements: the statements of the role's policies, without references.
    :param context: the values of the call's condition keys. Names of keys ignore the case.
    :return: for each statement about this action and resource, the conditions that failed.

    >>> may = {"Sid": "Small", "Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "*",
    ...        "Condition": {"StringEquals": {"ec2:InstanceType": "t3.micro"}}}
    >>> replay([may], "ec2:RunInstances", "arn:x", {"ec2:InstanceType": ["c7i.large"]})
    ['Small: StringEquals ec2:InstanceType must be t3.micro, and the call has c7i.large']
    """
    about = [
        statement
        for statement in statements
        if statement["Effect"] == "Allow"
        and _matches(action.lower(), [item.lower() for item in as_list(statement["Action"])])
        and _matches(resource, as_list(statement["Resource"]))
    ]
    if not about:
        return [f"no statement allows {action} on {resource}"]
    keys = {name.lower(): values for name, values in context.items()}
    found = []
    for statement in about:
        failed = list(_failed(statement.get("Condition", {}), keys))
        if not failed:
            return []
        found.append(f"{statement.get('Sid', 'a statement')}: {'; '.join(failed)}")
    return found


def as_list(value: Any) -> list[str]:
    """Return a policy's value as a list of texts, because IAM takes one value without a list."""
    return [str(item) for item in (value if isinstance(value, list) else [value])]


def _matches(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _failed(conditions: Mapping[str, Mapping[str, Any]], keys: Context) -> Iterator[str]:
    for operator, block in conditions.items():
        for key, given in block.items():
            actual, wanted = list(keys.get(key.lower(), ())), as_list(given)
            if not holds(operator, actual, wanted):
                has = " and ".join(actual) or "nothing"
                yield f"{operator} {key} must be {' or '.join(wanted)}, and the call has {has}"


def holds(operator: str, actual: Sequence[str], wanted: Sequence[str]) -> bool:
    """Evaluate one condition.

    :param actual: the values in the call. It is empty if the key is absent.
    :raises KeyError: for an operator that is not known here.

    >>> holds("BoolIfExists", [], ["true"]), holds("Bool", [], ["true"])
    (True, False)
    """
    if operator == "Null":
        return (wanted == ["true"]) == (not actual)
    name = operator.removesuffix("IfExists")
    if not actual:
        return name != operator or name in NEGATED
    test = OPERATORS[NEGATED.get(name, name)]
    found = any(test(value, pattern) for value in actual for pattern in wanted)
    return found != (name in NEGATED)
