"""Tests of the environments' processes: workers, their memory, and the choice of their number."""
