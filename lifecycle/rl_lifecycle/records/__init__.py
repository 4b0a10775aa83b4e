"""The base class of everything that is stored, and names that are safe in keys."""
