"""The program's start; `python -m toytask_cli` is `toytask`."""

from toytask_cli.cli.signals import leave_while_starting


def main() -> None:
    """Runs the command line, which is imported as late as here so that it can be interrupted."""
    leave_while_starting()
    from toytask_cli.cli import app

    app.main()


if __name__ == "__main__":
    main()
