"""The command line, and the function that carries out each command."""
