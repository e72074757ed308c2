"""`python -m toytask_cli` is `toytask`."""

from toytask_cli.cli.app import main

main()
