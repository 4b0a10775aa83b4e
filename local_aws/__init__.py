"""An AWS account on this machine: real templates, real roles, real processes, one loopback
endpoint.

The command line (:mod:`local_aws.commands.cli`) needs only the standard library. The server
(:mod:`local_aws.server.server`) runs in an environment of its own, because the emulator it is built
on pins its own botocore.
"""
