"""What commands do with runs: train, evaluate, compare, find a learning rate, try, repeat. Knows no command line."""
