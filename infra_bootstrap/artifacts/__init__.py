"""What machines and functions run, built to the same bytes every time and named by their digest.

Three kinds: the trainer's wheel set (installed by a machine at boot), the functions' zips, and the
evaluator's layer. Each is cached under `.cache/` by what it is made from, so a second bootstrap
builds nothing.
"""
