"""The five stacks: names, templates, parameters, outputs, costs, and their deployed state."""
