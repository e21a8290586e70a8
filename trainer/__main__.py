"""Entry point of `gpt-run` and of `python -m trainer`: runs a command and maps its error to an exit code."""

from __future__ import annotations

import sys

from trainer.errors import EXIT_USER_ERROR, UserError


def main() -> None:
    """Run the command line; wrong input is explained without a traceback and exits with 2."""
    from trainer.cli.main import app

    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


if __name__ == "__main__":
    main()
