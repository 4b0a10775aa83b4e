"""CloudFormation where the emulator's falls short: what a template says is what the service then
reports.
"""
