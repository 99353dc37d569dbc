"""Checkpoints, written whole or not at all; which of them are kept; the folder of a run. Knows no task."""
