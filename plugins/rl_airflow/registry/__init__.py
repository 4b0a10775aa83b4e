"""The champion: promotion, rollback, import, replay, and the questions to people."""
