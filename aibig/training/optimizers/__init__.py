"""Optimizers and schedules: one file each, the tables in aibig/training/__init__.py. Knows no task."""
