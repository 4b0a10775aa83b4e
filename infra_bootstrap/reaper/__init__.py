"""Terminating machines: the rule for overdue ones, its scheduled Lambda, and the proof of the end.

The zip of the Lambda function holds `reaper.py` alone.
"""
