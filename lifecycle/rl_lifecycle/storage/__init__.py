"""The keys of all objects, and the stores that hold the objects."""
