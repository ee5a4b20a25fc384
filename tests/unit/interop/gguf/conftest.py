"""Thinkers of every shape that a GGUF has, and llama.cpp to run them: its Python package, or its server on the PATH."""

import itertools
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import closing, contextmanager

import pytest
import torch

from muomni.frontends.tokenizer import Tokenizer
from muomni.models.thinker import Thinker
from muomni.special_tokens import EOS, PIECES
from tests.unit.interop.shapes import SHAPE

VARIANTS = {
    "llama": {},
    "tied and stretched": {"tied": True, "rope_scaling": 2.0, "rope_theta": 5000.0},
    "mixtral": {"num_experts": 4},
    "qwen3": {"qk_norm": True},
    "qwen3_moe": {"qk_norm": True, "num_experts": 4},
}
SUPPRESSED = [index for index in range(len(PIECES)) if index != EOS]
SPECIAL = list(range(len(PIECES)))  # with EOS, which would end an answer
WORDS = "the red circle is above a blue square and 12 small rings are left of it; grün, naïve, \U0001f389 and\ttabs"


def make_thinker(vocab_size=SHAPE["vocab_size"], **options):
    """Of random weights, large enough that its choices are clear."""
    torch.manual_seed(0)
    thinker = Thinker(**SHAPE | {"vocab_size": vocab_size}, **options).eval().requires_grad_(False)
    for parameter in thinker.parameters():
        parameter.mul_(1.5)
    return thinker


def greedy(thinker, ids, count):
    """The most likely tokens, one after the other, without special ones."""
    row = torch.tensor([ids])
    with torch.inference_mode():
        for _ in range(count):
            logits = thinker(row).logits[0, -1]
            logits[SPECIAL] = -torch.inf
            row = torch.cat([row, logits.argmax().view(1, 1)], dim=1)
    return row[0, len(ids) :].tolist()


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    Tokenizer.train([WORDS] * 3, SHAPE["vocab_size"], path)
    return path


@pytest.fixture(scope="session")
def tokenizer(tokenizer_path):
    return Tokenizer.load(tokenizer_path)


class Package:
    """llama.cpp by llama-cpp-python."""

    def __init__(self, path):
        import llama_cpp

        self.model = llama_cpp.Llama(str(path), n_ctx=256, n_threads=1, type_k=0, type_v=0, verbose=False)

    def greedy(self, ids, count, *, forbidden=SPECIAL):
        def suppress(_, logits):
            logits[forbidden] = -float("inf")
            return logits

        self.model.reset()
        tokens = self.model.generate(ids, temp=0.0, repeat_penalty=1.0, logits_processor=[suppress])
        return list(itertools.islice(tokens, count))

    def tokenize(self, text, *, special=False):
        return self.model.tokenize(text.encode(), add_bos=False, special=special)

    def close(self):
        self.model.close()


class Server:
    """llama.cpp by its llama-server."""

    def __init__(self, path):
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [
            "llama-server",
            "-m",
            path,
            "--port",
            self.port,
            "-c",
            256,
            "-t",
            1,
            "-np",
            1,
            "-ctk",
            "f32",
            "-ctv",
            "f32",
        ]
        command += ["-fa", "off", "--no-webui", "--no-warmup"]
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2)
                return
            except OSError:
                assert self.process.poll() is None, "llama-server does not take the file"
                time.sleep(0.05)
        self.close()
        raise AssertionError("llama-server does not answer")

    def post(self, path, **content):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        return json.loads(urllib.request.urlopen(request, timeout=60).read())

    def greedy(self, ids, count, *, forbidden=SPECIAL):
        bias = [[index, False] for index in forbidden]
        found = self.post(
            "/completion", prompt=ids, n_predict=count, temperature=0, return_tokens=True, logit_bias=bias
        )
        return found["tokens"]

    def tokenize(self, text, *, special=False):
        return self.post("/tokenize", content=text, parse_special=special)["tokens"]

    def close(self):
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="session")
def llama_cpp():
    """Path of a GGUF -> llama.cpp with it, in a `with`."""
    try:
        import llama_cpp  # noqa: F401

        program = Package
    except ImportError:
        if shutil.which("llama-server") is None:
            pytest.skip("needs llama-cpp-python, or llama-server on the PATH")
        program = Server

    @contextmanager
    def run(path):
        running = program(path)
        try:
            yield running
        finally:
            running.close()

    return run
