"""Tables: files and DataFrames as columns, and columns as features and targets. Knows no model."""
