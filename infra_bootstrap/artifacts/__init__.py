"""Build what machines and functions run.

There are three kinds of artifacts: the trainer's wheel set, which a machine installs at boot, the
zips of the functions, and the evaluator's layer. A build gives the same bytes each time, and the
digest of the bytes is a part of the artifact's key. Artifacts are cached under `.cache/` by the
digest of their sources, so a second deployment builds nothing.
"""
