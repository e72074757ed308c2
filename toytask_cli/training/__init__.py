"""Training: phases and rates, one step, and the run over epochs."""
