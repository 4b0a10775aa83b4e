"""EC2 instances and fleets. The emulator's EC2 keeps the networks, templates and other resources."""
