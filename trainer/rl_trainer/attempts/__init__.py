"""One attempt at a trial: train its segments in order, and commit each of them."""
