"""EC2 instances and fleets in front of the emulator's EC2, which keeps networks, templates and
everything else.
"""
