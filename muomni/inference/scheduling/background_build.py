"""Compiled steps are built by another process, of low priority, while this one answers (packages.py).

It ends with this process, however that ends: it reads a pipe whose other end is held here.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from muomni.program import ROOT

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "muomni.inference.scheduling.packages")


class BackgroundBuild:
    """The process, and a thread that waits for it.

    Args:
        wanted: of `packages.build`. built: called after each package; True if that was the last one.
    """

    def __init__(self, wanted: dict[str, Any], *, built: Callable[[], bool]) -> None:
        self.built, self.stopped = built, False
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read by the thread
        self.process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
            process_group=0,  # its compiler ends with it; in the same session, within which Linux compares priorities
        )
        self.thread = threading.Thread(target=self._wait, args=(json.dumps(wanted),), name="muomni-build", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End the process, if it still runs."""
        self.stopped = True
        if self.process.poll() is None:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.killpg(self.process.pid, signal.SIGKILL)
        self.thread.join()

    def _wait(self, wanted: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        log.info("compiling the decode steps in the background, for minutes: until then answers are slower")
        complete, problem = False, ""
        try:
            self.process.stdin.write(wanted + "\n")
            self.process.stdin.flush()
            for _ in self.process.stdout:  # a line for each package
                complete = self.built()
        except Exception as error:  # no reason to stop answering
            problem = str(error)
        status = self.process.wait()
        if self.stopped:
            return
        if complete:
            log.info("answers are computed by compiled steps from now on")
            return
        if status == 1:  # it has said why, in its last line
            self.errors.seek(0)
            problem = problem or self.errors.read().rstrip().rpartition("\n")[2]
        log.warning("answers go on without compiled steps: %s", problem or f"their builder ended with status {status}")
