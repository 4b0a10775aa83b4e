"""The local AWS: how fast it is, and how other benchmarks run inside it."""
