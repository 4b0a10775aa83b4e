"""What the gate and the evaluator cost, and how often the gate is wrong."""
