"""Optimizers and schedules; their tables are in aibig/training/__init__.py. Knows no task."""
