"""Scripts as forks of one process that has imported the libraries: a start costs a second instead of twenty.

`python -m tests.fork_server SOCKET OWNER MODULE ...` imports the modules, listens at the UNIX socket, and runs each script that
it is sent in a fork of its own. A fork is as good as a new interpreter as long as nothing of torch has run yet: no thread
pool, no random number drawn. It leaves when the process OWNER is gone: all workers of a test session share one server.
"""

import fcntl
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.faults.child import become

LONGEST_REQUEST = 1 << 20


def serve(path: str, owner: int, modules: Sequence[str]) -> None:
    """Listen until the owner is gone."""
    for module in modules:
        importlib.import_module(module)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    running: dict[int, socket.socket] = {}
    while _alive(owner):
        ready, _, _ = select.select([listener, *running.values()], [], [], 0.05)
        if listener in ready:
            connection, _ = listener.accept()
            running[_fork(connection, listener)] = connection
        for child, connection in list(running.items()):
            if connection in ready:  # the client says nothing more: it has given up
                with suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
            gone, status = os.waitpid(child, os.WNOHANG)
            if gone:
                with suppress(OSError):
                    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
                running.pop(child).close()
    listener.close()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _fork(connection: socket.socket, listener: socket.socket) -> int:
    message, descriptors, _, _ = socket.recv_fds(connection, LONGEST_REQUEST, 3)
    while not message.endswith(b"\n"):
        message += connection.recv(LONGEST_REQUEST)
    child = os.fork()
    if child == 0:
        listener.close()
        connection.close()
        _run_script(json.loads(message), descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return child


def _run_script(request: Mapping[str, Any], descriptors: Sequence[int]) -> NoReturn:
    """The child: `python SCRIPT ARGUMENTS`."""
    script = request["command"][0]

    def program() -> None:
        sys.path[0] = str(Path(script).resolve().parent)
        runpy.run_path(script, run_name="__main__")

    become(
        program, request["command"], folder=request["folder"], environment=request["environment"],
        descriptors=dict(enumerate(descriptors)),
    )  # fmt: skip


class ForkServer:
    """A server process, which begins with the first run of any client of the folder, and its client.

    folder: of the socket; clients of one folder share the server. owner: with which the server ends. modules: what it imports.
    environment: of the server; what a module reads while it is imported is from there.
    """

    def __init__(
        self, folder: Path, *, owner: int, modules: Sequence[str], root: Path, environment: Mapping[str, str]
    ) -> None:
        self.path, self.log, self.owner = folder / "fork", folder / "fork.log", owner
        self.modules, self.root, self.environment = modules, root, environment
        self.process: subprocess.Popen[bytes] | None = None  # where this client started it
        self.started = False

    def _start_once(self) -> None:
        """Start the server, unless another client has: the log is there."""
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.log.exists():
                with self.log.open("wb") as log:
                    self.process = subprocess.Popen(
                        [sys.executable, "-m", "tests.fork_server", str(self.path), str(self.owner), *self.modules],
                        cwd=self.root, env=dict(self.environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    )  # fmt: skip
        self.started = True

    def run(
        self, command: Sequence[str], *, folder: Path, environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run(["python", *command], cwd=folder, env=environment, capture_output=True, text=True)`."""
        end = time.monotonic() + timeout
        connection = self._connect(end)
        request = {"command": list(command), "folder": str(folder), "environment": dict(environment)}
        with (
            connection,
            open(os.memfd_create("out"), "w+b") as out,
            open(os.memfd_create("err"), "w+b") as err,
            open(os.devnull, "rb") as nothing,
        ):
            connection.settimeout(max(0.1, end - time.monotonic()))
            message = json.dumps(request).encode() + b"\n"
            descriptors = [nothing.fileno(), out.fileno(), err.fileno()]
            sent = socket.send_fds(connection, [message], descriptors)
            connection.sendall(message[sent:])
            try:
                code = int(connection.recv(64))
            except TimeoutError:
                raise subprocess.TimeoutExpired(list(command), timeout) from None
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
        return subprocess.CompletedProcess(list(command), code, *texts)

    def _connect(self, end: float) -> socket.socket:
        if not self.started:
            self._start_once()
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.path))
                return connection
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
                said = self.log.read_text(errors="replace")
                if "Traceback" in said or time.monotonic() > end:
                    raise RuntimeError(f"the fork server does not answer: {said[-4000:]}") from None
                time.sleep(0.05)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
