"""Lambda functions as real processes: the right Python, its own role, the zip and the layers,
limits that bite.
"""
