"""How often the gate errs, and how long it takes: simulations on returns of real agents."""
