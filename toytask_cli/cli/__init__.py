"""One file per command: parse, call, print. Nothing heavy is imported at the top of any."""
