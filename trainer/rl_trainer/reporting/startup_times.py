"""How long the parts of a machine's start took: boot, installation and imports.

The times go to the log, and benchmarks of recovery read them there.
"""

from collections.abc import Mapping

#: Variables in which the machine's user data recorded moments, in seconds since the epoch.
BOOT, INSTALL, READY = "NIGHTSHIFT_BOOT_AT", "NIGHTSHIFT_INSTALL_AT", "NIGHTSHIFT_READY_AT"


def startup_facts(
    environ: Mapping[str, str], *, began: float, importing: float, imported: float
) -> dict[str, float]:
    """Compute durations from moments. All moments are in seconds since the epoch.

    :param began: when the trainer's first line ran.
    :param importing: when the import of torch and other libraries began.
    :param imported: when this import ended.
    :return: `imports_s`, and on a machine also `boot_s` and `installs_s`. On a machine `imports_s`
        includes the start of the Python interpreter.

    >>> marks = {BOOT: "100", INSTALL: "100.5", READY: "103"}
    >>> startup_facts(marks, began=104, importing=105, imported=108)
    {'boot_s': 0.5, 'installs_s': 2.5, 'imports_s': 4.0}
    >>> startup_facts({}, began=104.0, importing=105.0, imported=108.0)
    {'imports_s': 3.0}
    """
    try:
        boot, install, ready = (float(environ[name]) for name in (BOOT, INSTALL, READY))
    except (KeyError, ValueError):
        return {"imports_s": round(imported - importing, 3)}
    return {
        "boot_s": round(install - boot, 3),
        "installs_s": round(ready - install, 3),
        "imports_s": round((began - ready) + (imported - importing), 3),
    }


def describe_startup(facts: Mapping[str, float]) -> str:
    """Return a sentence for the log.

    >>> describe_startup({"installs_s": 2.5, "imports_s": 4.0})
    'installs took 2.5 s, imports took 4.0 s'
    """
    return ", ".join(
        f"{name.removesuffix('_s')} took {facts[name]:.1f} s"
        for name in ("installs_s", "imports_s")
        if name in facts
    )
