"""Q-learning: the task, its losses, exploration. Knows no model by name."""
