"""Keep torch's optimizers from importing torch's compiler, which the trainer never uses.

torch wraps some methods of its optimizers so that `torch.compile` does not compile them. The first
call of such a method imports `torch._dynamo`. This loads 840 modules, including sympy, and takes
1.4 s of CPU time on each start of a machine. The construction of a small model takes less. The
wrapper first looks for an attribute on the wrapped function, where an earlier call stored its
result. This module stores the plain function there. Then the same code runs, and nothing is
imported.

Source: https://github.com/pytorch/pytorch/blob/main/torch/_compile.py
"""

from typing import Any

#: The attribute of the wrapped function in which torch's wrapper looks for the function to call.
ATTRIBUTE = "__dynamo_disable"


def leave_compiler_out() -> int:
    """Let torch's optimizers run without its compiler. You can call this function several times.

    If a release of torch wraps its methods in another way, nothing changes.

    :return: the number of methods that run without the compiler.
    """
    from torch.optim import Optimizer

    plain = [
        fn
        for method in vars(Optimizer).values()
        if (fn := _wrapped_by_compiler(method)) is not None
    ]
    for fn in plain:
        if not hasattr(fn, ATTRIBUTE):
            setattr(fn, ATTRIBUTE, fn)
    return len(plain)


def _wrapped_by_compiler(method: Any) -> Any:
    """Return the function inside torch's wrapper; None for any other method."""
    code = getattr(method, "__code__", None)
    from_there = (
        code is not None
        and code.co_filename.endswith("_compile.py")
        and ATTRIBUTE in code.co_consts
    )
    return getattr(method, "__wrapped__", None) if from_there else None
