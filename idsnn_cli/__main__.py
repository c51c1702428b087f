"""The command ``idsnn`` and ``python -m idsnn_cli``, which torchrun starts: signals first, then what takes time."""

from typing import NoReturn

from idsnn_cli.cli.stopping import until_stopped


def main() -> NoReturn:
    """Run the command line and exit."""
    until_stopped(_run)


def _run() -> int:
    from idsnn_cli.cli.main import run_command_line

    return run_command_line()


if __name__ == "__main__":
    main()
