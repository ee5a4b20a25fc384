"""How a program ends that is not told to go on: Ctrl-C is exit code 130, a closed pipe (`| head -1`) 141, without a traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_endings() -> Iterator[None]:
    """See the module."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of the pipe has closed it, and what is left to write goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
