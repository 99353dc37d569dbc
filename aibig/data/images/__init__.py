"""Images: files, decoding, augmentation, torchvision's datasets. Knows no model."""
