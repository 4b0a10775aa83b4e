"""Keep torch's compiler from being imported by who never compiles: it takes longer than all of a
small model's construction.

torch wraps some methods of its optimizers so that `torch.compile` leaves them alone, and the first
call of one imports `torch._dynamo` for that: 840 modules, sympy among them, 1.4 s of CPU on each
start of a machine. The wrapper asks the function itself first, for what an earlier call left there;
with the plain function there, the same code runs and nothing is imported.

Source: https://github.com/pytorch/pytorch/blob/main/torch/_compile.py
"""

from typing import Any

#: Where torch's wrapper looks for what to call, on the wrapped function.
ATTRIBUTE = "__dynamo_disable"


def leave_compiler_out() -> int:
    """Let torch's optimizers run without its compiler. Safe to repeat; where torch does it
    differently, nothing changes.

    :return: how many methods run without it.
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
    """The function inside of torch's wrapper; None for any other method."""
    code = getattr(method, "__code__", None)
    from_there = (
        code is not None
        and code.co_filename.endswith("_compile.py")
        and ATTRIBUTE in code.co_consts
    )
    return getattr(method, "__wrapped__", None) if from_there else None
