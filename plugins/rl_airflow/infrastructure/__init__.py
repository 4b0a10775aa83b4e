"""The AWS environment: operators and trigger of its stacks, sessions by role, and its outputs."""
