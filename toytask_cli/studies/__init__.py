"""Studies: many runs, planned, trained side by side or on a cluster, and compared."""
