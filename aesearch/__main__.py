"""Command line: ``python -m aesearch``.

Each command imports what it needs when it is called, so that ``--help`` is instant.
"""

import os
import sys
from importlib import import_module

from aesearch.commands.parser import make_parser
from aesearch.errors import UserError, nearest
from aesearch.escapes import say


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status.

    0: done. 1: no trial completed. 2: unusable input. 130: interrupted.
    """
    parser = make_parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = options.parser._option_string_actions
        parser.error(f"unknown option or argument {unknown[0]!r}: {nearest(unknown[0], known)}")
    try:
        module, name = options.function.split(":")
        status: int = getattr(import_module(f"aesearch.commands.{module}"), name)(options)
    except UserError as error:
        say(f"aesearch: {error}", out=sys.stderr)
        return 2
    except OSError as error:
        if error.errno is None:
            raise
        # Of the machine, and not of this program: a disk that is full or read-only, a file that may not be read.
        what = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        say(f"aesearch: {what}; mend that, and give the same command again", out=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("aesearch: interrupted", out=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of the output, such as head, has closed it; Python would fail again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
