"""What is done with modules, as torch.nn.utils: modes, averages, shards, files of weights. Knows no model."""
