"""The champion: promotion, rollback, import, replay, and questions to people."""
