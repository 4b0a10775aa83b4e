"""The stacks of an environment: operators and trigger, sessions by role, and where everything
is.
"""
