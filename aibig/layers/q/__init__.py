"""What follows a Q-network's features: value heads, distributions, noise; its inputs normalised. Knows no network."""
