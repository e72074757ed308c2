"""The page of a run: its reports go in, one HTML file that needs nothing else comes out."""
