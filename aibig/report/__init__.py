"""Looking at runs: pages of tables and pictures, each one file that needs nothing else. Knows no task by name."""
