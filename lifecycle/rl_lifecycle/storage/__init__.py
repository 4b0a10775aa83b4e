"""Where everything lies in the bucket, and the stores that hold it."""
