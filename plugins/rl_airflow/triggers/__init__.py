"""Paths of the trigger classes before they moved, which the databases of earlier releases still
hold.
"""
