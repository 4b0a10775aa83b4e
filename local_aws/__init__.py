"""A local AWS account: an emulator with real templates, roles and processes on one loopback port.

The command line (:mod:`local_aws.commands.cli`) needs only the standard library. The server
(:mod:`local_aws.server`) runs in its own environment, because the emulator pins its own version of
botocore.
"""
