"""Metrics, what an evaluation saw, scores of texts, acting greedily. Knows no task and no trainer."""
