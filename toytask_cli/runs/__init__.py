"""The run directory: the one room that knows file names, and reads and writes them safely."""
