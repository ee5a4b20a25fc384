"""The child of a fork: it runs as a separate program and exits with that program's code."""

import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn


def become(
    program: Callable[[], Any],
    words: Sequence[str],
    *,
    folder: Path | str,
    environment: Mapping[str, str],
    descriptors: Mapping[int, int],
) -> NoReturn:
    """Call `program` in a process group of its own, as if it had been started with the command line `words`.

    environment: the whole one. descriptors: 0 .. 2 -> the file that takes its place.
    """
    code: Any = 1
    try:
        os.setpgid(0, 0)
        for target, descriptor in descriptors.items():
            os.dup2(descriptor, target)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.argv = list(words)
        program()
        code = 0
    except SystemExit as ended:
        code = ended.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))
