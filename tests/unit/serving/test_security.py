"""Who may call: addresses, pages, keys; and how large and slow a request may be."""

import contextlib
import gzip
import json
import logging
import socket
import time

import httpx
import pytest
from websockets.sync.client import connect

from muomni.serving import protocols
from muomni.serving.observe import QUOTING, quiet_loggers
from muomni.serving.security import HEADERS
from tests.unit.serving.conftest import wait_until

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
    monkeypatch.setattr(protocols, "HEADER_SECONDS", 0.3)
    with socket.create_connection(live.url.removeprefix("http://").split(":")) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nHost: local")
        raw.settimeout(10)
        begun = time.monotonic()
        assert raw.recv(100) == b""
        assert time.monotonic() - begun < 5
    assert live.http.get("/health").status_code == 200


@pytest.mark.parametrize(
    "raw", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"\x16\x03\x01" + b"\0" * 50]
)
def test_what_is_no_http_is_answered_as_every_error(live, raw):
    with socket.create_connection(live.url.removeprefix("http://").split(":")) as raw_socket:
        raw_socket.sendall(raw + b"\r\n\r\n")
        raw_socket.settimeout(10)
        answer = b""
        while block := raw_socket.recv(4096):
            answer += block
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"] == {
        "message": "Invalid HTTP request received.", "type": "invalid_request_error", "param": None, "code": "invalid_http",
    }  # fmt: skip


def test_a_handshake_that_cannot_be_read_is_answered(live):
    with socket.create_connection(live.url.removeprefix("http://").split(":")) as raw:
        lines = (
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: a",
        )
        raw.sendall("\r\n".join((f"GET /v1/realtime?model={'a' * 9000} HTTP/1.1", *lines, "", "")).encode())
        raw.settimeout(10)
        answer = raw.recv(4096)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"too long" in answer


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


def test_a_client_that_does_not_read_is_given_up(start, monkeypatch):
    monkeypatch.setattr(protocols, "SEND_SECONDS", 0.3)
    server = start()
    with socket.create_connection(server.url.removeprefix("http://").split(":")) as raw:
        raw.setblocking(False)
        with contextlib.suppress(OSError):
            for _ in range(400):
                raw.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: server.server.server_state.total_requests > 0)
        wait_until(lambda: not server.server.server_state.connections)
    assert server.http.get("/health").status_code == 200


def test_too_many_connections_are_refused_as_every_error(start):
    server = start(max_connections=1)  # of which 2 * 1 + 16 may be idle
    address = server.url.removeprefix("http://").split(":")
    with contextlib.ExitStack() as held:
        for _ in range(18):
            held.enter_context(socket.create_connection(address))
        wait_until(lambda: len(server.server.server_state.connections) == 18)
        answer = httpx.get(f"{server.url}/health")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert answer.json()["error"]["code"] == "server_busy"
    wait_until(lambda: not server.server.server_state.connections)
    assert httpx.get(f"{server.url}/health").status_code == 200


@pytest.mark.parametrize("origin", ["http://[", "null", "http://localhost@evil.example", "//", ""])
def test_an_origin_that_is_none_is_refused(live, origin):
    answer = live.http.get("/v1/models", headers={"Origin": origin})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


def test_names_of_this_machine_are_compared_without_case(start):
    server = start(hosts=("MyBox.local",))
    assert server.http.get("/health", headers={"Host": "mybox.LOCAL:80"}).status_code == 200


def test_allowed_pages_can_read_errors_and_send_any_header(start):
    server = start(origins=("https://app.example",), key=KEY)
    origin = {"Origin": "https://app.example"}
    refused = server.http.get("/v1/models", headers=origin)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, origin["Origin"])
    asked = server.http.options(
        "/v1/chat/completions",
        headers=origin | {"Access-Control-Request-Headers": "authorization,content-type,x-stainless-os"},
    )
    assert "x-stainless-os" in asked.headers["access-control-allow-headers"]
    lost = server.http.get("/v1/models", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in lost.headers


def test_more_requests_than_allowed_are_429_and_those_that_break_off_are_counted(start):
    server = start(max_connections=1)
    address = server.url.removeprefix("http://").split(":")
    with socket.create_connection(address) as raw:
        raw.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        raw.sendall(b"Content-Length: 5\r\n\r\n{")
        wait_until(lambda: server.http.get("/health").status_code == 429)
        busy = server.http.get("/health")
        assert (busy.headers["retry-after"], busy.headers["x-frame-options"]) == ("2", "DENY")
    wait_until(lambda: "muomni_cancelled_total 1.0" in server.http.get("/metrics").text)


def test_a_compressed_body_is_refused_by_name(live):
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = live.http.post("/v1/embeddings", content=gzip.compress(b"{}"), headers=headers)
    assert answer.status_code == 415
    assert "Content-Encoding" in answer.json()["error"]["message"]


def test_no_path_is_answered_by_a_redirect(live):
    for path in ("/v1/models/", "/health/", "/v1"):
        answer = live.http.get(path)
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


def test_a_name_with_a_slash_is_found(start):
    server = start(names=("org/model",))
    for path in ("/v1/models/org/model", "/v1/models/org%2Fmodel"):
        assert server.http.get(path).json()["id"] == "org/model"


@pytest.fixture
def quiet():
    """As serve.py leaves the loggers, for one test."""
    levels = {name: logging.getLogger(name).level for name in QUOTING}
    quiet_loggers()
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_logs_hold_nothing_of_any_content(live, caplog, quiet):
    with caplog.at_level(logging.INFO, logger="root"):
        live.http.post("/v1/audio/speech", json={"model": "tiny", "voice": "0", "input": "a 秘密"})
        with contextlib.suppress(Exception), connect(live.url.replace("http", "ws") + "/v1/realtime?model=秘密"):
            pass
        live.http.get("/v1/models?q=秘密")
    lines = [each.getMessage() for each in caplog.records if not each.name.startswith("http")]  # httpx is this client
    assert lines
    assert not [line for line in lines if "秘" in line or "%E7" in line]
