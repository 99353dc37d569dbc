"""Metrics, outcomes of evaluations, scores of texts, and the greedy policy. Knows no task and no trainer."""
