"""An instance as a real process group: its user data, metadata service, console and end."""
