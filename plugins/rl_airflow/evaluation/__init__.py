"""Evaluations: the client of the evaluator, its operators and its trigger."""
