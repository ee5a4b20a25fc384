"""The chat in a real terminal: `python infer.py` behind a pseudo-terminal, driven by keys, judged by what is on it."""

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import torch

from muomni.checkpoints.export import save_export
from muomni.frontends.tokenizer import Tokenizer
from muomni.special_tokens import EOS
from tests.unit.inference.conftest import IMAGE, MEL, tiny_thinker

ROOT = Path(__file__).resolve().parents[3]
UP, CTRL_C, BACKSPACE = "\x1b[A", "\x03", "\x7f"
ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[()=>][A-Z0-9]?)")


class Session:
    """A program behind a pseudo-terminal."""

    def __init__(self, command, env, folder):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=folder, env=env, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
        )  # fmt: skip
        os.close(slave)
        self.raw, self.text, self.seen = b"", "", 0

    def type(self, keys):
        os.write(self.master, keys.encode())

    def read(self, seconds):
        """Whether anything came."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # what Linux says when the program has ended
            return False
        self.raw += data
        self.text = ESCAPES.sub("", self.raw.decode(errors="replace")).replace("\r", "")
        return True

    def expect(self, pattern, seconds=120.0):
        """Wait for a pattern behind what was expected before; `found` is its match."""
        end = time.monotonic() + seconds
        while not (found := re.compile(pattern).search(self.text, self.seen)):
            assert self.read(end - time.monotonic()), f"{pattern!r} did not come:\n{self.text[self.seen :]}"
        self.found, self.seen = found, found.end()

    def close(self):
        """The exit status."""
        while self.read(30.0):
            pass
        os.close(self.master)
        return self.process.wait(timeout=30)


@pytest.fixture
def endless(tmp_path, parts, tokenizer_path):
    """An export with a long context whose answers never end by themselves."""
    thinker = tiny_thinker(max_length=20_000)
    with torch.no_grad():
        thinker.head.weight[EOS] = 0
    metadata = {"stage": "omni_sft", "tokenizer": Tokenizer.load(tokenizer_path).fingerprint(),
             "mel": MEL.metadata(), "image": IMAGE.metadata()}  # fmt: skip
    return save_export(
        tmp_path / "endless",
        {**parts, "thinker": thinker},
        metadata=metadata,
        files={"tokenizer.model": tokenizer_path},
    )


@pytest.fixture
def session(endless, tmp_path):
    """A chat of at most 12 tokens an answer, in an empty folder."""
    env = os.environ | {
        "XDG_STATE_HOME": str(tmp_path / "state"), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [
        sys.executable,
        str(ROOT / "infer.py"),
        f"ckpt={endless}",
        "device=cpu",
        "generation.max_new_tokens=3000",
    ]
    session = Session(command, env, tmp_path)
    yield session
    session.process.kill()


def test_a_chat_in_a_terminal(session, tmp_path, picture):
    # A command, edited; a file that is missing, one that is no picture, one that is: one line each, and the chat goes on.
    session.expect("You: ", seconds=400.0)  # importing takes its time on a busy machine
    session.type(f"/hexp{BACKSPACE}{BACKSPACE}lp\r")
    session.expect(r"\n/image PATH ")
    session.expect("You: ")
    session.type("/image gone.png\r")
    session.expect(r"\nerror: no such file: gone.png\n")
    session.expect("You: ")
    (tmp_path / "bad.png").write_text("no picture")
    session.type("/image bad.png\r")
    session.expect(r"\nerror: [^\n]*bad\.png[^\n]*\n")
    session.expect("You: ")
    session.type(f"/image {picture}\r")
    session.expect(r"attached to the next message: ")
    session.expect("You: ")
    # Ctrl-C throws away what is typed, stops an answer once it runs, and the chat goes on with what was written.
    session.type(f"never sent{CTRL_C}tell me\r")
    session.expect("μOmni: .*\\w")
    session.type(CTRL_C)
    session.expect(r"\nstopped\n")
    status = r"KV Cache usage:\n  Position: (\d+) / 20000 \([\d.]+%\) \[OK\]\n  Remaining capacity: (\d+) tokens\n"
    session.expect(status)
    position, remaining = map(int, session.found.groups())
    assert position + remaining == 20000
    session.expect(r"prompt: \d+ tokens, [\d.]+ ms, [\d.]+ tokens/s\n")
    session.expect(
        r"generated: (\d+) tokens, model [\d.]+ ms \([\d.]+ ms/token\), lm-head [\d.]+ ms, sampling [\d.]+ ms, total [\d.]+ ms, "
    )
    assert 0 < int(session.found.group(1)) < 3000
    # The history: the line of before comes again, and what it adds stands behind what the cache held.
    session.expect("You: ")
    session.type("/stats\r")
    session.expect(status)
    session.expect("You: ")
    session.type(f"{UP}{UP}\r")
    session.expect("You: tell me")
    session.expect("μOmni: .*\\w")
    session.type(CTRL_C)
    session.expect(status)
    assert int(session.found.group(1)) > position
    # On the empty line it leaves.
    session.expect("You: ")
    session.type(CTRL_C)
    session.expect("Goodbye.")
    assert session.close() == 0
    lines = (tmp_path / "state" / "muomni" / "chat_history").read_text().splitlines()
    assert [line[1:] for line in lines if line.startswith("+")][-3:] == ["tell me", "/stats", "tell me"]
