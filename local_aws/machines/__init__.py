"""An instance as a real process group: its user data, its metadata service, its console, its
end.
"""
