"""Inference with a saved model: one predictor per kind of input. Knows no task and no trainer."""
