"""The log of a run: metrics.jsonl, the progress bar, TensorBoard. Knows no task."""
