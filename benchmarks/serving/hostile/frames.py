"""Hostile WebSocket frames for /v1/realtime. They are built here: a library's client would not send them."""

import base64
import json
import os
import random
import struct
import zlib
from typing import Any

from benchmarks.fuzz.media import png
from benchmarks.serving.hostile.shot import Shot

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9


def frame(
    payload: bytes,
    *,
    opcode: int = TEXT,
    end: bool = True,
    reserved: int = 0,
    masked: bool = True,
    length: int | None = None,
) -> bytes:
    """A frame (RFC 6455), whose parts may contradict each other."""
    head = bytes([end << 7 | reserved << 4 | opcode])
    size, bit = len(payload) if length is None else length, masked << 7
    if size < 126:
        head += bytes([bit | size])
    else:
        head += (
            bytes([bit | 126]) + struct.pack("!H", size)
            if size < 65_536
            else bytes([bit | 127]) + struct.pack("!Q", size)
        )
    if not masked:
        return head + payload
    mask = b"mask"
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload[:70_000])) + payload[70_000:]


def handshake(*, compressed: bool, path: str = "/v1/realtime?model=m") -> bytes:
    """The request that opens a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if compressed else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\n{extension}\r\n"
    ).encode()


def _shot(*frames: bytes, compressed: bool = False, **how: Any) -> Shot:
    return Shot(sends=frames, handshake=handshake(compressed=compressed), **how)


def _event(value: Any, **how: Any) -> Shot:
    return _shot(frame(value if isinstance(value, bytes) else json.dumps(value).encode()), **how)


def damaged_frames(rng: random.Random) -> Shot:
    """What the protocol does not allow."""
    return _shot(rng.choice((
        frame(b"{}", masked=False), frame(b"{}", reserved=7), frame(b"{}", opcode=3), frame(b"{}", opcode=11),
        frame(b"\xff\xfe{}"),
        frame(b"{}", length=2**63), frame(b"{}", length=2**64 - 1), frame(b"a" * 200, opcode=PING),
        frame(b"{}", opcode=0),
        frame(b"\x03", opcode=CLOSE), frame(struct.pack("!H", 5), opcode=CLOSE), frame(b"{", end=False) + frame(b"}"),
        frame(b"\xe2", end=False) + frame(b"\x82", opcode=0), frame(b"", opcode=CLOSE), b"\xff" + rng.randbytes(2000),
        frame(b"a", opcode=PING, end=False),
    )))  # fmt: skip


def huge_frames(rng: random.Random) -> Shot:
    """Longer than is taken, in one frame or many."""
    if rng.random() < 0.5:
        return _shot(frame(b" " * (3 << 20)))
    piece = frame(b" " * 60_000, opcode=0, end=False)
    return _shot(frame(b" ", end=False), *[piece] * 40)


def compressed_bombs(rng: random.Random) -> Shot:
    """Small frames that unfold into 64 MiB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(b" " * (64 << 20)) + packer.flush(zlib.Z_SYNC_FLUSH)
    return _shot(frame(packed[:-4], reserved=4, opcode=rng.choice((TEXT, BINARY))), compressed=True)


def binary(rng: random.Random) -> Shot:
    """Frames of bytes, which no event is."""
    return _shot(frame(rng.randbytes(rng.choice((0, 1, 3000))), opcode=BINARY))


def odd_json(rng: random.Random) -> Shot:
    """Texts that are no events."""
    return _event(rng.choice((
        b"", b"{", b"null", b"[]", b'"a"', b"1" * 5000, b"[" * 100_000, b'{"type": NaN}',
        b'{"type": "response.create", "type": "x"}',
        b'{"type": "' + b"a" * 50_000 + b'"}', b'{"\\ud800": 1}', b'{"type": "\\ud800"}', b"\xef\xbb\xbf{}",
        b'{"a":' * 500 + b"1" + b"}" * 500, b"\0",
    )))  # fmt: skip


def odd_events(rng: random.Random) -> Shot:
    """Events with fields that they do not have, or values that these do not have."""

    def item(**content: Any) -> dict[str, Any]:
        return {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": [content]}}

    image = f"data:image/png;base64,{base64.b64encode(png(65_535, 65_535)).decode()}"
    event: dict[str, Any] = rng.choice((
        {"type": "session.update", "session": {"audio": {"input": {"format": {"rate": 10**9}}}}},
        {"type": "session.update", "session": []},
        {"type": "session.update", "session": {"audio": {"input": {"turn_detection": {"threshold": 1e308}}}}},
        {"type": "session.update", "session": {"model": "../../etc/passwd", "nothing": 1}}, {"type": "session.update"},
        {"type": "session.update", "session": {"instructions": "a" * 20_000}},
        {"type": "session.update", "session": {"tools": [{}] * 1000}},
        {"type": "session.update", "session": {"\ud800": 1}},
        {"type": "session.update", "session": {"audio": {"output": {"voice": "\0"}}}},
        {"type": "input_audio_buffer.append", "audio": "/etc/passwd"},
        {"type": "input_audio_buffer.append", "audio": "AAAA"},
        {"type": "input_audio_buffer.append", "audio": ""}, {"type": "input_audio_buffer.append", "audio": 5},
        {"type": "input_audio_buffer.commit", "event_id": ["a"]},
        {"type": "conversation.item.delete", "item_id": "../../etc/passwd"},
        {"type": "conversation.item.truncate", "item_id": "a", "audio_end_ms": 10**400},
        {"type": "conversation.item.retrieve"},
        {"type": "response.create", "response": {"max_output_tokens": 10**30}},
        {"type": "response.create", "response": {"instructions": 1}},
        item(type="input_image", image_url="file:///etc/passwd"), item(type="input_image", image_url=image),
        item(type="input_image"),
        item(type="input_audio", audio="AAA"), item(type="input_text"), item(type="output_text", text="a"),
        item(type="input_text", text="\ud800"),
        {"type": "conversation.item.create", "item": {"type": "function_call"}}, {"type": "a" * 3000},
        {"type": {"a": 1}}, {},
        item(type="input_text", text="a") | {"previous_item_id": "none"},
        {"type": "response.cancel", "response_id": "x" * 300},
    ))  # fmt: skip
    return _event(event)


def floods(rng: random.Random) -> Shot:
    """Very many events at once; the session's answers may come late, and the client does not read them."""
    text = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]}
    one = rng.choice((
        frame(b"a", opcode=PING), frame(b'{"type": "input_audio_buffer.clear"}'),
        frame(b'{"type": "response.create"}'), frame(b"{"),
        frame(json.dumps({"type": "conversation.item.create", "item": text}).encode()),
        frame(json.dumps({"type": "input_audio_buffer.append",
        "audio": base64.b64encode(rng.randbytes(9600)).decode()}).encode()),
    ))  # fmt: skip
    return _shot(*[one] * rng.choice((50, 400)), frame(b"", opcode=CLOSE))


def no_handshakes(rng: random.Random) -> Shot:
    """Requests for a WebSocket that are not as they should be."""
    raw = handshake(
        compressed=False,
        path=rng.choice(
            ("/v1/realtime", "/v1/realtime?model=" + "a" * 9000, "/", "/v1/models", "/v1/realtime?model=%00")
        ),
    )
    damage = rng.choice((
        (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 99"), (b"Sec-WebSocket-Key", b"X-Key"),
        (b"Key: ", b"Key: \xff"), (b"GET", b"POST"),
        (b"Host: localhost", b"Host: evil.example"), (b"\r\n\r\n", b"\r\nOrigin: https://evil.example\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: " + b"a, " * 5000 + b"\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: x; y=\"\r\n\r\n"),
    ))  # fmt: skip
    return Shot(sends=[raw.replace(*damage, 1)], half_close=rng.random() < 0.5, passes=True, plain=True)


MAKERS = (damaged_frames, huge_frames, compressed_bombs, binary, odd_json, odd_events, floods, no_handshakes)
