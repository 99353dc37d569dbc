"""Blocks that several models share. They know no model, no task and no data."""
