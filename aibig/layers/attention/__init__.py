"""Attention and what it needs: the KV cache, rotary positions, causal attention on a CPU. Knows no model."""
