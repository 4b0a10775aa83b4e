"""Lambda functions as real processes: right Python, the function's role, layers and limits."""
