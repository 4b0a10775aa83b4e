"""The records of the benchmarks, and the tables that docs/ shows from them."""
