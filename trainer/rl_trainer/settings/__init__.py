"""What an experiment asks of the trainer: algorithms, hyper-parameters, spaces, and their
checks.
"""
