"""Models that were trained before: folders, published formats, fine-tuning. Knows no task and no trainer."""
