"""The trigger classes under the paths that databases of earlier releases hold."""
