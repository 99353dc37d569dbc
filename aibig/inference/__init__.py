"""Using a finished model: its folder, and one predictor per kind of input. Knows no task and no trainer."""
