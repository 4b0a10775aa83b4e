"""The five stacks: names, templates, parameters, outputs, and what is deployed of them."""
