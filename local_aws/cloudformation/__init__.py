"""CloudFormation where the emulator falls short: services report every property of a template."""
