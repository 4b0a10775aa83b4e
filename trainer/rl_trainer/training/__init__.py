"""Train one segment: build its model, watch it, and stop it at the segment's end."""
