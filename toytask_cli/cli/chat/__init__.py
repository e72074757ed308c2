"""`toytask chat`: the session, its `:commands`, the view of answers, and the input."""
