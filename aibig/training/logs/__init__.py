"""What a run says of itself: metrics.jsonl, the progress bar, TensorBoard. Knows no task."""
