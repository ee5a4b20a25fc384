"""python -m benchmarks.serving.aborts     clients that break off, and a server that is killed: what is left behind

ckpt=DIR        an export, default checkpoints/omni_sft
clients=200     break off in the middle: streamed chat, speech, an upload, a WebSocket
at_once=20      of them
rounds=3        of all clients; the first is a warm-up, memory may grow in it
kills=1         times that the server is killed (SIGKILL) and started again while clients ask
serve=WORDS     further options of serve.py, separated by commas
seed=0
machine=quiet   what else ran: busy, if anything did
out=FILE        the numbers as JSON, default reports/aborts.json

Exit code 1 if a request stays active or queued, or a socket or thread is left.
"""

import asyncio
import base64
import json
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.results import write_results
from benchmarks.serving.process import Process, ServerProcess, metrics
from muomni.cli.key_value import read_options, run_program

OWN = {
    "ckpt": "checkpoints/omni_sft",
    "clients": 200,
    "at_once": 20,
    "rounds": 3,
    "kills": 1,
    "serve": (),
    "seed": 0,
    "machine": "quiet",
    "out": "reports/aborts.json",
}
ACTIVE = (
    "muomni_open_requests", "muomni_active_answers", "muomni_queued_answers", "muomni_active_utterances",
    "muomni_queued_utterances", "muomni_waiting_jobs",
)  # fmt: skip
SETTLE_SECONDS = 30.0  # in which everything must be over
TEXT = "the red circle is left of the blue square and the green star is under it"


class Aborts:
    """Clients by raw sockets, which end without a word in the middle of what they do."""

    def __init__(self, url: str, model: str, *, seed: int) -> None:
        parts = urlsplit(url)
        self.host, self.port, self.model, self.random = parts.hostname, parts.port, model, random.Random(seed)
        self.statuses: dict[str, int] = {}

    async def run(self, clients: int, *, at_once: int) -> None:
        """So many, of all kinds in turn."""
        gate = asyncio.Semaphore(at_once)
        ways: list[Callable[[], Awaitable[None]]] = [self.chat, self.speech, self.upload, self.realtime, self.whole]

        async def one(way: Callable[[], Awaitable[None]]) -> None:
            async with gate:
                await way()

        await asyncio.gather(*(one(ways[index % len(ways)]) for index in range(clients)))

    async def chat(self) -> None:
        """A streamed answer, broken off after some bytes of it."""
        message = [{"role": "user", "content": TEXT}]
        body = {"model": self.model, "messages": message, "stream": True, "max_completion_tokens": 200}
        await self._post("/v1/chat/completions", json.dumps(body).encode(), "application/json")

    async def speech(self) -> None:
        """Speech, likewise."""
        body = {"model": self.model, "input": f"{TEXT}. {TEXT}.", "voice": "0", "response_format": "pcm"}
        await self._post("/v1/audio/speech", json.dumps(body).encode(), "application/json")

    async def whole(self) -> None:
        """An answer that comes whole: nothing of it is there yet."""
        body = {"model": self.model, "messages": [{"role": "user", "content": TEXT}], "max_completion_tokens": 200}
        await self._post("/v1/chat/completions", json.dumps(body).encode(), "application/json", read=False)

    async def upload(self) -> None:
        """A recording, of which half arrives."""
        body = b"--b\r\nContent-Disposition: form-data; name=file; filename=a.wav\r\n\r\n" + bytes(200_000)
        await self._post("/v1/audio/transcriptions", body, "multipart/form-data; boundary=b", share=0.5, read=False)

    async def realtime(self) -> None:
        """A session, broken off while it takes sound."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            key = base64.b64encode(self.random.randbytes(16)).decode()
            writer.write(
                f"GET /v1/realtime?model={self.model} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            self._note(await reader.readline())
            await reader.readuntil(b"session.created")
            audio = base64.b64encode(self.random.randbytes(9600)).decode()
            event = json.dumps({"type": "input_audio_buffer.append", "audio": audio}).encode()
            for _ in range(self.random.randint(1, 10)):
                writer.write(bytes([0x81, 0x80 | 126]) + len(event).to_bytes(2) + bytes(4) + event)
                await writer.drain()
                await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.IncompleteReadError):  # more sessions than there may be
            pass
        finally:
            writer.transport.abort()

    async def _post(self, path: str, body: bytes, kind: str, *, share: float = 1.0, read: bool = True) -> None:
        """Send a share of a request, read a little of the answer, reset the connection."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body[: int(share * len(body))])
            await writer.drain()
            if read:
                self._note(await reader.readline())
                await reader.read(self.random.randint(1, 2000))
            await asyncio.sleep(self.random.uniform(0.0, 0.05))
        finally:
            writer.transport.abort()

    def _note(self, status: bytes) -> None:
        word = status.decode(errors="replace").strip() or "closed"
        self.statuses[word] = self.statuses.get(word, 0) + 1


def counts(url: str, process: Process) -> dict[str, float]:
    """What a server holds now."""
    now = metrics(url)
    held = {name: now[name] for name in ACTIVE if name in now}
    held["muomni_open_requests"] -= 1  # this one
    return held | {"sockets": process.sockets(), "threads": process.threads()}


async def settled(url: str, process: Process, before: dict[str, float]) -> dict[str, float]:
    """What is left, compared with before: waits until it is nothing, at most `SETTLE_SECONDS`."""
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        left = {name: value - before[name] for name, value in counts(url, process).items()}
        if all(value <= 0 for value in left.values()) or time.monotonic() > end:
            return left
        await asyncio.sleep(0.1)


async def warmed_up(aborts: Aborts, url: str, process: Process, clients: int) -> dict[str, float]:
    """Counts after a few clients, which have made the threads that stay."""
    await aborts.run(clients, at_once=clients)
    idle = dict.fromkeys(ACTIVE, 0.0) | {"sockets": float("inf"), "threads": float("inf")}
    await settled(url, process, idle)
    await asyncio.sleep(1.0)
    return counts(url, process)


def measure(options: dict[str, Any]) -> dict[str, Any]:
    """Leftovers and memory after each round, and the times after kills."""
    model, rounds, memory = Path(options["ckpt"]).resolve().stem, [], []
    with ServerProcess(options["ckpt"], *options["serve"]) as server:
        process, aborts = server.process, Aborts(server.url, model, seed=options["seed"])
        before = asyncio.run(warmed_up(aborts, server.url, process, options["at_once"]))
        for _ in range(options["rounds"]):
            begun = time.monotonic()
            asyncio.run(aborts.run(options["clients"], at_once=options["at_once"]))
            left = asyncio.run(settled(server.url, process, before))
            memory.append(process.memory())
            rounds.append({"left": left, "memory_mib": memory[-1], "seconds": time.monotonic() - begun})
        written = server.written()
    restarts = [_kill(options) for _ in range(options["kills"])]
    return {
        "rounds": rounds,
        "answers": aborts.statuses,
        "threads": before["threads"],
        "tracebacks": written.count("Traceback"),
        "first_traceback": written[max(0, written.find("Traceback")) :][:3000] if "Traceback" in written else "",
        "memory_growth_percent": 100 * (memory[-1] / memory[0] - 1),
        "restarts": restarts,
    }


def _kill(options: dict[str, Any]) -> dict[str, float]:
    """Kill a server that writes answers; start it again; seconds until it answers, and of the answer."""
    model = Path(options["ckpt"]).resolve().stem
    first = ServerProcess(options["ckpt"], *options["serve"])
    try:
        aborts = Aborts(first.url, model, seed=1)
        asyncio.run(aborts.run(10, at_once=10))
    finally:
        first.kill()
        first.log.close()
    begun = time.monotonic()
    with ServerProcess(options["ckpt"], f"port={urlsplit(first.url).port}", *options["serve"]) as second:
        asyncio.run(Aborts(second.url, model, seed=2).chat())
        return {
            "start_seconds": first.start_seconds,
            "restart_seconds": second.start_seconds,
            "first_answer_seconds": time.monotonic() - begun,
        }


def main(arguments: list[str]) -> int:
    options = read_options(arguments, OWN)
    result = measure(options)
    for each in result["rounds"]:
        print(f"{each['memory_mib']:.0f} MiB, left: {each['left']}")
    print(f"answers: {result['answers']}; tracebacks in the log: {result['tracebacks']}")
    print(f"memory after the first round: {result['memory_growth_percent']:+.1f} %; restarts: {result['restarts']}")
    write_results(options["out"], {"date": time.strftime("%Y-%m-%d"), "options": options, "results": result})
    return int(any(value > 0 for value in result["rounds"][-1]["left"].values()) or result["tracebacks"] > 0)


if __name__ == "__main__":
    run_program(main)
