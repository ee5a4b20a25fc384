"""Hostile HTTP: headers, lengths, chunks, methods, paths, and clients that are slow or go away."""

import json
import random

from benchmarks.serving.hostile.shot import CHAT, COMPLETIONS, JSON_TYPE, SPEECH, Shot, request, valid

HEAD = b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = json.dumps(valid(CHAT)).encode()
SLOW = 0.6  # seconds between two bytes


def slow_headers(rng: random.Random) -> Shot:
    """A few bytes now and then."""
    sends: list[bytes | float] = [rng.choice((b"P", b"GET /health HTTP/1.1\r\n", HEAD))]
    for _ in range(20):
        sends += [SLOW, b"X-%d: a\r\n" % rng.randrange(99) if rng.random() < 0.5 else b"a"]
    return Shot(sends=sends, seconds=20)


def slow_bodies(rng: random.Random) -> Shot:
    """A body of which a few bytes come now and then, or none."""
    sends: list[bytes | float] = [HEAD + b"Content-Length: 5000\r\n\r\n{"]
    if rng.random() < 0.6:
        for _ in range(15):
            sends += [SLOW, b" "]
    return Shot(sends=sends, seconds=20)


def half_closed(rng: random.Random) -> Shot:
    """Sends some of a request, and says that no more comes."""
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    return Shot(sends=[whole[: rng.randrange(len(whole) + 1)]], half_close=True, passes=True)


def headers(rng: random.Random) -> Shot:
    """Too long, too many, or not as HTTP has them."""
    line = rng.choice((
        b"X-Long: " + b"a" * 100_000, b"".join(b"X-%d: a\r\n" % index for index in range(5000)), b"X-Nul: a\0b",
        b"X-Fold: a\r\n b", b": empty",
        b"no colon", b"X Space: a", b"Host: other", b"X-\xff: \xff", b"Cookie: " + b"a=b; " * 9000,
        b"Content-Length: 5", b"Content-Length: -1",
        b"Content-Length: 1e3", b"Content-Length: 99999999999999999999", b"Content-Length: 0x10",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: xchunked", b"Transfer-Encoding:\x0bchunked", b"Expect: 100-continue",
        b"Upgrade: h2c\r\nConnection: Upgrade",
        b"Authorization: Bearer " + b"a" * 20_000, b"Content-Encoding: gzip", b"Range: bytes=0-" + b",0-" * 2000,
        b"Origin: null", b"Origin: \0",
        b"Origin: https://evil.example", b"X-Forwarded-For: " + b"127.0.0.1, " * 900, b"Accept: " + b"a/b;q=" * 900,
        b"Referer: http://[",
    ))  # fmt: skip
    return Shot(
        sends=[HEAD + b"Connection: close\r\nContent-Length: %d\r\n" % len(BODY) + line + b"\r\n\r\n" + BODY],
        passes=True,
        half_close=True,
    )


def hosts(rng: random.Random) -> Shot:
    """Requests that are meant for others."""
    host = rng.choice(
        (
            b"",
            b"evil.example",
            b"[",
            b"localhost:99999999",
            b"localhost@evil.example",
            b"\xff",
            b"127.0.0.1.evil.example",
            b"a" * 9000,
        )
    )
    lines = (
        b"Host: " + host + b"\r\n"
        if rng.random() < 0.8
        else rng.choice((b"", b"Host: localhost\r\nHost: evil.example\r\n"))
    )
    return Shot(
        sends=[b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n" + lines + b"\r\n"],
        passes=host.startswith(b"localhost:"),
    )


def types(rng: random.Random) -> Shot:
    """Other media types than the route's."""
    kind = rng.choice(("text/plain", "", "application/xml", "application/json-patch+json",
    "multipart/form-data; boundary=a",
                       "application/x-www-form-urlencoded", "application/json" * 500, "*/*",
                       "application/json; charset=utf-16"))  # fmt: skip
    return Shot(
        sends=[request(rng.choice((CHAT, SPEECH)), BODY, headers={"Content-Type": kind})],
        passes=kind.endswith("utf-16"),
    )


def chunks(rng: random.Random) -> Shot:
    """Damage of the chunked encoding."""
    body = rng.choice((
        b"zz\r\n{}\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n{", b"-1\r\n{}\r\n", b"2\r\n{}0\r\n\r\n",
        b"2;" + b"a" * 50_000 + b"\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\nX: " + b"a" * 50_000 + b"\r\n\r\n", b"0x2\r\n{}\r\n0\r\n\r\n", b"2\n{}\n0\n\n",
        b"1\r\n{\r\n" * 3000 + b"0\r\n\r\n",
        b"\r\n\r\n", b"0\r\n\r\nGET /v1/models HTTP/1.1\r\n\r\n", b"7fffffff\r\n" + b" " * 1000,
    ))  # fmt: skip
    extra = b"Content-Length: 4\r\n" if rng.random() < 0.2 else b""
    return Shot(
        sends=[HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n" + extra + b"\r\n" + body], half_close=True
    )


def too_large(rng: random.Random) -> Shot:
    """Bodies over the limit, declared or not."""
    if rng.random() < 0.5:
        return Shot(
            sends=[HEAD + b"Content-Length: %d\r\n\r\n" % rng.choice((2**26, 2**40, 2**63, 10**30)), b" " * 1000]
        )
    piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    return Shot(sends=[HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[piece] * 40])


def not_http(rng: random.Random) -> Shot:
    """Other protocols, other methods, noise."""
    raw = rng.choice((
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(100), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\r\n\r\n", b"\r\n" * 5000,
        b"SSH-2.0-x\r\n", rng.randbytes(500), b"\0" * 70_000, b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"G\0T / HTTP/1.1\r\n\r\n", b"get /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
    ))  # fmt: skip
    return Shot(sends=[raw], half_close=True, passes=True)


def methods(rng: random.Random) -> Shot:
    """Methods that the route does not have."""
    path = rng.choice(
        (
            CHAT,
            COMPLETIONS,
            "/v1/models",
            "/health",
            "/metrics",
            "/",
            "/page/js/main.js",
            "/v1/realtime",
            "/openapi.json",
        )
    )
    method = rng.choice(("TRACE", "DELETE", "PUT", "PATCH", "PROPFIND", "A" * 3000, "POST"))
    return Shot(sends=[request(path, b"{}", method=method, headers=JSON_TYPE)])


def paths(rng: random.Random) -> Shot:
    """Ways out of the page's folder, and addresses that no route has."""
    up = rng.choice(
        (
            "..",
            "%2e%2e",
            "%2e.",
            "..%2f..",
            "..%5c..",
            "..\\..",
            "%252e%252e",
            ".%00.",
            "..;",
            "%c0%ae%c0%ae",
            "....//",
            "/",
        )
    )
    begin = rng.choice(("/page/", "/page/js/", "/", "/v1/models/", "/v1/audio/voices/", "//", "/page//"))
    end = rng.choice(
        (
            "etc/passwd",
            "app.py",
            "serve.py",
            ".git/config",
            "%00",
            "a" * 20_000,
            "con",
            "?a=" + "b" * 9000,
            "#x",
            "\xff",
        )
    )
    path = begin + "/".join([up] * rng.randrange(1, 9)) + "/" + end
    return Shot(
        sends=[request(path, method="GET")], passes=begin == "/v1/models/"
    )  # any name will do there: names=["*"]


MAKERS = (
    slow_headers, slow_bodies, half_closed, headers, hosts, types, chunks, too_large, not_http, methods, paths,
)  # fmt: skip
