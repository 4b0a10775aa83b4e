"""What an experiment file may say, and the tables behind it."""
