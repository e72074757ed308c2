"""The program's start; `python -m toytask_cli` is `toytask`."""

from toytask_cli.cli.signals import exit_on_early_interrupt
from toytask_cli.cli.streams import prepare_streams


def main() -> None:
    """Run the command line, imported only once Ctrl-C can end the program."""
    exit_on_early_interrupt()
    prepare_streams()
    from toytask_cli.cli import app

    app.main()


if __name__ == "__main__":
    main()
