"""`toytask chat`: a session with the model, its `:commands`, how answers look, and the input."""
