"""How fast environments are stepped in several processes."""
