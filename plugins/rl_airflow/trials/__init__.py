"""One trial: its operators, its trigger, and the supervisor that launches and relaunches it."""
