"""Where a run computes: device, precision, threads, ranks, random generators. Knows no task."""
