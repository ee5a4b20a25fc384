"""Who may call: addresses, pages, keys; and how large and slow a request may be."""

import socket
import time

import httpx
import pytest

from muomni.serving import server as server_module
from muomni.serving.security import HEADERS

KEY = "correct-horse-battery"


def test_every_answer_has_the_headers_that_browsers_obey(live):
    for path in ("/", "/health", "/v1/models", "/nope", "/page/js/main.js"):
        answer = live.http.get(path)
        assert HEADERS.items() <= dict(answer.headers.items() | {(k, answer.headers[k]) for k in HEADERS}).items()
        assert "server" not in answer.headers
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "localhost@evil.example"])
def test_a_page_that_points_its_name_at_this_machine_is_refused(live, host):
    answer = live.http.get("/v1/models", headers={"Host": host})
    assert answer.status_code in (400, 421)


def test_pages_of_others_may_not_call(live, start):
    answer = live.http.get("/v1/models", headers={"Origin": "https://evil.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert "access-control-allow-origin" not in answer.headers
    assert live.http.get("/v1/models", headers={"Origin": live.url}).status_code == 200
    friendly = start(origins=("https://app.example",))
    allowed = friendly.http.get("/v1/models", headers={"Origin": "https://app.example"})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://app.example")
    asked = friendly.http.options("/v1/chat/completions", headers={"Origin": "https://app.example"})
    assert asked.status_code == 204
    assert "authorization" in asked.headers["access-control-allow-headers"].lower()


def test_with_a_key_nothing_but_page_and_health_is_open(start):
    server = start(key=KEY)
    for path in ("/v1/models", "/metrics", "/openapi.json"):
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": KEY},
            {"Authorization": f"Basic {KEY}"},
        ):
            answer = server.http.get(path, headers=headers)
            assert answer.status_code == 401, path
            assert answer.json()["error"]["code"] == "invalid_api_key"
        assert server.http.get(path, headers={"Authorization": f"bearer {KEY}"}).status_code == 200
    assert server.http.get("/health").status_code == server.http.get("/").status_code == 200


def test_a_large_body_is_refused_while_it_comes(start):
    server = start(max_body=1000)
    declared = server.http.post("/v1/embeddings", content=b" " * 2000, headers={"Content-Type": "application/json"})
    assert declared.status_code == 413

    def endless():
        for _ in range(100):
            yield b" " * 100

    try:
        chunked = server.http.post("/v1/embeddings", content=endless(), headers={"Content-Type": "application/json"})
    except httpx.WriteError:  # closed while we still sent
        return
    assert chunked.status_code == 413
    assert chunked.json()["error"]["code"] == "too_large"


def test_a_body_that_trickles_in_is_given_up(start):
    server = start(body_seconds=0.3)
    with socket.create_connection(server.url.removeprefix("http://").split(":")) as raw:
        raw.sendall(
            b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
        )
        raw.settimeout(10)
        assert b"408" in raw.recv(4096)


def test_headers_that_trickle_in_are_given_up(live, monkeypatch):
    monkeypatch.setattr(server_module, "HEADER_SECONDS", 0.3)
    with socket.create_connection(live.url.removeprefix("http://").split(":")) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nHost: local")
        raw.settimeout(10)
        begun = time.monotonic()
        assert raw.recv(100) == b""
        assert time.monotonic() - begun < 5
    assert live.http.get("/health").status_code == 200


def test_other_types_than_json_are_refused(live):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = live.http.post("/v1/chat/completions", content=b"{}", headers={"Content-Type": kind})
        assert answer.status_code == 415, kind


@pytest.mark.parametrize(
    "path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/page//etc/passwd", "/page/js"]
)
def test_the_page_gives_out_its_own_files_only(live, path):
    raw = httpx.Request("GET", live.url + "/")
    raw.url = raw.url.copy_with(raw_path=path.encode())
    assert live.http.send(raw).status_code in (404, 405)
