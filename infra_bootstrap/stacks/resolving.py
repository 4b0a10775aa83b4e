"""Resolve a template's references, substitutions and conditions to the values that AWS has.

Only the functions that our templates use are known. Any other function is refused.
"""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra_bootstrap.clients import Clients
from infra_bootstrap.errors import BadInputError
from infra_bootstrap.stacks.deployed import DeployedStack
from infra_bootstrap.stacks.template_files import condition_holds, template

#: Stands for `AWS::NoValue` until the entry is dropped.
NOTHING = object()
#: The value of `AWS::URLSuffix` where it is not `amazonaws.com`, by partition.
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/pseudo-parameter-reference.html
URL_SUFFIXES = {"aws-cn": "amazonaws.com.cn"}
SUBSTITUTION = re.compile(r"\$\{([^!}][^}]*)\}")


@dataclass
class Stage:
    """One deployed stack, with everything that its template may refer to.

    :param concern: the name of its template.
    :param physical: physical ids by logical id.
    :param exports: values that other stacks export, by name.
    :param pseudo: the values of the pseudo parameters, such as `AWS::Region`.
    """

    clients: Clients
    concern: str
    stack: DeployedStack
    physical: Mapping[str, str]
    exports: Mapping[str, str]
    pseudo: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Fill in the pseudo parameters."""
        self.pseudo = {
            "AWS::AccountId": self.clients.account_id,
            "AWS::Region": self.clients.region,
            "AWS::Partition": self.clients.partition,
            "AWS::StackName": self.stack.name,
            "AWS::URLSuffix": URL_SUFFIXES.get(self.clients.partition, "amazonaws.com"),
        }

    @property
    def values(self) -> dict[str, str]:
        """The parameters of the stack and the pseudo parameters, for conditions."""
        return {**self.stack.parameters, **self.pseudo}

    @property
    def resources(self) -> dict[str, Any]:
        """The template's resources."""
        return dict(template(self.concern)["Resources"])

    def properties(self, logical_id: str) -> dict[str, Any]:
        """Resolve the properties of a resource."""
        resolved: dict[str, Any] = self.resolve(self.resources[logical_id]["Properties"])
        return resolved

    def resolve(self, value: Any) -> Any:
        """Resolve a value of the template.

        :raises BadInputError: if it uses a function that is not known here.
        """
        if isinstance(value, list):
            return [item for item in map(self.resolve, value) if item is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, operand),) = value.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self._function(name, operand)
        resolved = {key: self.resolve(item) for key, item in value.items()}
        return {key: item for key, item in resolved.items() if item is not NOTHING}

    def _function(self, name: str, operand: Any) -> Any:
        functions: dict[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Fn::Sub": self._sub,
            "Fn::GetAtt": lambda pair: self._attribute(*pair),
            "Fn::If": self._if,
            "Fn::ImportValue": lambda export: self.exports[self.resolve(export)],
            "Fn::Base64": lambda text: base64.b64encode(str(self.resolve(text)).encode()).decode(),
            "Fn::Join": lambda pair: str(pair[0]).join(map(str, self.resolve(pair[1]))),
        }
        if name not in functions:
            raise BadInputError(
                f"templates/{self.concern}.yaml uses {name}, which `drift` cannot work out"
            )
        return functions[name](operand)

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NOTHING
        if name in self.pseudo:
            return self.pseudo[name]
        declared = template(self.concern)["Parameters"]
        if name not in declared:
            return self.physical[name]
        value = self.stack.parameters[name]
        return (
            [part.strip() for part in value.split(",")]
            if declared[name]["Type"] == "CommaDelimitedList"
            else value
        )

    def _sub(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            name, _, attribute = match.group(1).partition(".")
            return str(self._attribute(name, attribute) if attribute else self._ref(name))

        return SUBSTITUTION.sub(value, text)

    def _attribute(self, logical_id: str, attribute: str) -> str:
        """Return an attribute of a resource. Our templates use only ARNs."""
        name, kind = self.physical[logical_id], self.resources[logical_id]["Type"]
        account, region, partition = (
            self.clients.account_id,
            self.clients.region,
            self.clients.partition,
        )
        arns = {
            "AWS::IAM::Role": f"arn:{partition}:iam::{account}:role/{name}",
            "AWS::S3::Bucket": f"arn:{partition}:s3:::{name}",
            "AWS::SQS::Queue": f"arn:{partition}:sqs:{region}:{account}:{name.rsplit('/', 1)[-1]}",
        }
        if attribute != "Arn" or kind not in arns:
            raise BadInputError(
                f"templates/{self.concern}.yaml uses {logical_id}.{attribute}, which `drift` "
                "cannot work out"
            )
        return arns[kind]

    def _if(self, operand: Any) -> Any:
        condition, then, otherwise = operand
        return self.resolve(
            then if condition_holds(self.concern, condition, self.values) else otherwise
        )


def canonical(document: Any) -> Any:
    """Bring a policy, or any answer, into one form, so that two of them can be compared.

    AWS keeps neither the order nor the difference between `x` and `[x]`.

    >>> canonical({"Action": ["b", "a"]}) == canonical({"Action": ["a", "b"]})
    True
    >>> canonical({"Resource": ["x"]}) == canonical({"Resource": "x"})
    True
    """
    if isinstance(document, dict):
        return {key: canonical(value) for key, value in sorted(document.items())}
    if isinstance(document, list):
        items = sorted((canonical(item) for item in document), key=repr)
        return items[0] if len(items) == 1 else items
    return str(document).lower() if isinstance(document, bool) else str(document)
