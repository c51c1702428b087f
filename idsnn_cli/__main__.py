"""``python -m idsnn_cli``: the command line, for torchrun and for machines without the script on PATH."""

from idsnn_cli.cli.main import main

if __name__ == "__main__":
    main()
