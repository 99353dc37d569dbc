"""Looking at runs: pages of tables and figures, each one file that needs nothing else. Knows no task by name."""
