"""Replay buffers: transitions of an agent, stored and sampled. Knows no environment and no model."""
