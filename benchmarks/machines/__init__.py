"""How trials wait for machines, and how they recover from lost ones."""
