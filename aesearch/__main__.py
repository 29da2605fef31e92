"""Command line: ``python -m aesearch``.

Each command imports what it needs when it is called, so that ``--help`` is instant.
"""

import os
import select
import signal
import sys
from importlib import import_module
from typing import TextIO

from aesearch.commands.parser import make_parser
from aesearch.errors import UserError, nearest
from aesearch.escapes import say


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status.

    0: done. 1: no trial completed. 2: unusable input. 130: interrupted. 141: its output was closed, as by head.
    """
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except UserError as error:
        say(f"aesearch: {error}", out=sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _unread(sys.stdout):
            # Python would fail again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        if error.errno is None:
            raise
        # Of the machine, and not of this program: a disk that is full or read-only, a file that may not be read.
        what = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        say(f"aesearch: {what}; mend that, and give the same command again", out=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("aesearch: interrupted", out=sys.stderr)
        return 130


def _unread(stream: TextIO) -> bool:
    """Tell whether the reader of a stream, such as head, has closed it."""
    poll = select.poll()
    poll.register(stream, 0)
    return bool(poll.poll(0))


def _run(arguments: list[str] | None) -> int:
    parser = make_parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = options.parser._option_string_actions
        parser.error(f"unknown option or argument {unknown[0]!r}: {nearest(unknown[0], known)}")
    module, name = options.function.split(":")
    status: int = getattr(import_module(f"aesearch.commands.{module}"), name)(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
