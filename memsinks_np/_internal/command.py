"""Run a command. An output that cannot be written never loses its results."""

import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

CANNOT_PRINT = 74  # EX_IOERR of sysexits.h


def run_command(name: str, main: Callable[[], int | None]) -> NoReturn:
    """Run a command and exit with its code; with 74 if its output cannot be written.

    A reader that has closed the output needs no message; for a full disk it is one line.
    """
    if sys.stdout is None:  # closed before the command started
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code: str | int | None = 0
    try:
        try:
            code = main()
        except SystemExit as e:
            code = e.code
        except KeyboardInterrupt:
            code = 130
        sys.stdout.flush()
    except OSError as e:
        # drop what is still buffered: Python would try to write it once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not code and not isinstance(e, BrokenPipeError):
            with suppress(OSError):
                print(f"{name}: {e.filename or 'output'}: {e.strerror}", file=sys.stderr)
        code = code or CANNOT_PRINT
    sys.exit(code)
