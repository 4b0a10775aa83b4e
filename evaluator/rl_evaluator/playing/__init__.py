"""Playing episodes: policies, environments, wheels, and the requests that need them."""
