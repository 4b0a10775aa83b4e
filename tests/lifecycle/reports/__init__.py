"""Tests of the summary and the outcome of a run."""
