"""The short versions of benchmarks/serving/hostile and benchmarks/serving/schema: requests of each kind, made to break the
server, and some from its own schema."""

import pytest

from benchmarks.serving.hostile.__main__ import MAKERS, run
from muomni.serving import protocols


def test_no_request_breaks_the_server(start, monkeypatch):
    monkeypatch.setattr(protocols, "HEADER_SECONDS", 1.0)
    server = start(names=("*",), body_seconds=1.0, request_seconds=10.0, max_sessions=64, max_audio_seconds=20.0)
    counts, found = run(server.url, requests=len(MAKERS), seed=1, clients=8)
    assert found == []
    assert sum(sum(each.values()) for each in counts.values()) == len(MAKERS)
    assert server.http.get("/health").json()["status"] == "ok"


@pytest.mark.slow
def test_every_answer_is_in_the_schema(start):
    pytest.importorskip("schemathesis", reason="pip install schemathesis: it makes the requests")
    from benchmarks.serving.schema import check

    server = start(names=("*",), request_seconds=10.0)
    sent, found = check(server.url, cases=500, seed=0, seconds=30.0)
    assert found == []
    assert sent >= 500
