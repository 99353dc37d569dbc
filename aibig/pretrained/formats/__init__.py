"""What published files of each model type mean: keys of config.json, names and layout of tensors. Knows no network."""
