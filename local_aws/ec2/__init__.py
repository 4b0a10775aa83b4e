"""EC2 instances and fleets. The emulator's EC2 keeps networks and launch templates."""
