"""Measurements: a model and examples go in, a frozen report comes out."""
