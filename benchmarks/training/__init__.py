"""What training costs and gives: speed, memory, returns and steps per dollar."""
