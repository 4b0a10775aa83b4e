"""The command line: `train`, `digest`, `replay` and `export`."""
