"""llama.cpp's server with a Thinker of Llama's shape in float32, for comparison.

Building it (it is no part of pip's llama-cpp-python, whose source archive has its sources):

    pip download --no-deps --no-binary :all: llama-cpp-python && tar xzf llama_cpp_python-*.tar.gz
    cmake -S llama_cpp_python-*/vendor/llama.cpp -B build -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON \
        -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF
    cmake --build build --target llama-server      # build/bin/llama-server
"""

import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.serving.client import Call
from benchmarks.serving.process import START_SECONDS, Process
from benchmarks.speed.decoders import write_gguf
from muomni.inference.engine import Engine
from muomni.inference.prompt import Request


class LlamaServer:
    """Serves the Thinker of an engine with one thread, until the end of the context. streams: requests that decode together."""

    def __init__(self, binary: str, engine: Engine, folder: Path, *, streams: int) -> None:
        self.prompter = engine.require_prompter()
        thinker, path = self.prompter.thinker, folder / "thinker-F32.gguf"
        write_gguf(thinker, path, "F32", tokenizer=self.prompter.tokenizer)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        words = {
            "--model": path, "--port": port, "--threads": 1, "--threads-batch": 1, "--threads-http": streams + 2,
            "--parallel": streams, "--ctx-size": streams * thinker.max_length,
            "--cache-type-k": "f32", "--cache-type-v": "f32", "--host": "127.0.0.1",
        }  # fmt: skip
        self.log = (folder / "llama.log").open("w")
        command = [binary, *(str(word) for pair in words.items() for word in pair)]
        self.popen = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.process = Process(self.popen.pid)

    def __enter__(self) -> "LlamaServer":
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.popen.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        self.__exit__()
        raise ValueError(f"llama-server did not start: {Path(self.log.name).read_text()[-1000:]}")

    def __exit__(self, *_: Any) -> None:
        self.popen.kill()
        self.popen.wait()
        self.log.close()

    def call(self, text: str, tokens: int) -> Call:
        """A streamed greedy answer to the same prompt, as token ids."""
        request = Request(messages=[{"role": "user", "content": text}])
        prompt = self.prompter.fitting(request, self.prompter.encode_media(request), max_new_tokens=None)
        body = {
            "prompt": prompt.ids.tolist(), "max_tokens": tokens, "stream": True, "temperature": 0, "ignore_eos": True,
            "stream_options": {"include_usage": True},
        }  # fmt: skip
        return Call(kind="completion stream", path="/v1/completions", body=body)
