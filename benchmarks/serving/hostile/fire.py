"""Sends a shot, and judges what comes back."""

import http.client
import io
import json
import re
import socket
import time
import zlib
from contextlib import suppress
from urllib.parse import urlsplit

from benchmarks.serving.hostile.shot import Shot

ERROR_KEYS = {"message", "type", "param", "code"}
TEXT, CLOSE, PONG = 1, 8, 10
SECRETS = (b"root:x:0:0", b"[core]\n", b'"""Serve an')  # beginnings of what the requests try to read


def fire(url: str, shot: Shot, *, patience: float = 1.0) -> tuple[str, str | None]:
    """(what came back in a word: a status, `closed`, ...; what is wrong with it or None). patience: times the shot's seconds are
    waited for an answer."""
    host, port = str(urlsplit(url).hostname), urlsplit(url).port
    begun, seconds = time.monotonic(), patience * shot.seconds
    with socket.create_connection((host, port), timeout=seconds) as raw:
        with suppress(OSError):  # it has closed while we still sent
            _send(raw, shot)
        try:
            answer = _read(raw, end=begun + seconds, websocket=shot.websocket)
        except TimeoutError:
            return "silence", f"neither answered nor closed within {seconds:g} s"
    return _judge_frames(answer, shot) if shot.websocket else _judge(answer, shot)


def _send(raw: socket.socket, shot: Shot) -> None:
    if shot.websocket:  # frames before the server's consent are lost
        raw.sendall(shot.handshake)
        while not raw.recv(4096, socket.MSG_PEEK).startswith(b"HTTP/1.1 "):
            pass
    for each in shot.sends:
        if isinstance(each, bytes):
            raw.sendall(each)
            continue
        raw.settimeout(each)
        with suppress(TimeoutError):
            raw.recv(1, socket.MSG_PEEK)
            return  # answered or closed already
        raw.settimeout(shot.seconds)
    if shot.half_close:
        raw.shutdown(socket.SHUT_WR)


def _read(raw: socket.socket, *, end: float, websocket: bool) -> bytes:
    """All that comes until the end of the answer. Raises TimeoutError."""
    answer = b""
    while True:
        raw.settimeout(max(0.01, end - time.monotonic()))
        try:
            block = raw.recv(1 << 16)
        except ConnectionError:
            return answer
        except TimeoutError:
            if answer.startswith(b"HTTP/1.1 200"):  # a long answer, which is still coming
                return answer
            raise
        answer += block
        if not block or _complete(answer, websocket=websocket):
            return answer


def _complete(answer: bytes, *, websocket: bool) -> bool:
    """Whether a WebSocket has sent an error, a pong or its end; HTTP answers end with their connection or by their length."""
    head, found, rest = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    if head.startswith(b"HTTP/1.1 101"):
        return not websocket or any(
            opcode in (CLOSE, PONG) or b'"type": "error"' in text or b'"type":"error"' in text
            for opcode, text in _frames(rest)
        )
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return bool(length) and len(rest) >= int(length[1])  # type: ignore[index]


def _frames(data: bytes) -> list[tuple[int, bytes]]:
    """(opcode, payload) of each whole frame of a server, unpacked (permessage-deflate)."""
    frames, inflate = [], zlib.decompressobj(-15)
    while len(data) >= 2:
        size, head = data[1] & 127, 2
        if size > 125:
            head = 4 if size == 126 else 10
            size = int.from_bytes(data[2:head], "big")
        if len(data) < head + size:
            break
        payload = data[head : head + size]
        frames.append((data[0] & 15, inflate.decompress(payload + b"\0\0\xff\xff") if data[0] & 64 else payload))
        data = data[head + size :]
    return frames


def _judge(answer: bytes, shot: Shot) -> tuple[str, str | None]:
    if not answer:
        return "closed", None
    if not answer.startswith(b"HTTP/"):
        return "noise", f"no HTTP: {answer[:80]!r}"

    class Received:
        def makefile(self, *_: object) -> io.BytesIO:
            return io.BytesIO(answer)

    response = http.client.HTTPResponse(Received())  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except http.client.RemoteDisconnected:  # after 100 Continue
        return "closed", None
    except http.client.IncompleteRead as error:
        body = error.partial
    word = str(response.status)
    if response.status in (100, 101):
        return word, None
    if any(secret in body for secret in SECRETS) and b"<!doctype" not in body[:200].lower():
        return word, f"a file was read: {body[:200]!r}"
    if response.status < 400:
        return word, None if shot.passes else f"taken: {body[:120]!r}"
    if response.status >= 500:
        return word, f"{body[:200]!r}"
    return word, None if shot.plain and body.count(b"\n") < 2 else wrong_error(body, shot)


def wrong_error(body: bytes, shot: Shot) -> str | None:
    """What an error lacks of OpenAI's form, or of the field's name."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return f"not in OpenAI's form: {body[:120]!r}"
    if not isinstance(error, dict) or not set(error) >= ERROR_KEYS or not error["message"]:
        return f"not in OpenAI's form: {body[:120]!r}"
    if shot.field is not None and error["code"] not in (
        "too_large",
        "timeout",
        "server_busy",
        "context_length_exceeded",
    ):
        param = error["param"]
        if param is None or not re.fullmatch(shot.field, param):
            return f"names {param!r}, not {shot.field}: {error['message'][:120]}"
    return None


def _judge_frames(answer: bytes, shot: Shot) -> tuple[str, str | None]:
    head, _, rest = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101"):
        return _judge(answer, shot)
    for opcode, payload in _frames(rest):
        if opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big")
            return f"close {code}", "closed by an error of the server" if code == 1011 else None
        if opcode == TEXT and json.loads(payload)["type"] == "error":
            return "error event", wrong_error(payload, shot)
    return "cut off", None
