"""Checkpoints, written completely or not at all, and the folder of a run. Knows no task."""
