"""Speech that is played while it is spoken: by a program that reads a wav file from its standard input.

    aplay -q        paplay        pw-play -        ffplay -nodisp -autoexit -loglevel error -

It takes sound no faster than one listens; a thread waits for it, so that the text does not. What fails (no device, no server of
sounds, a program that ends) is found when the next block is written, or at the next answer.
"""

import queue
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable

from torch import Tensor

from muomni.inference.cli.sound_out import Encoder
from muomni.inference.errors import InvalidOption

EARLY = 0.1  # seconds after a short answer in which a program that fails at once is noticed at once


class PlayedSound:
    """One answer, a process of its own. `write` and `close` as of `SoundOut`."""

    def __init__(self, words: list[str], encoder: Encoder) -> None:
        self.target, self.encoder = words[0], encoder
        self.failure = ""  # one line
        self.stopped = False
        # What the program says, of which the last line tells why it failed. The thread closes it.
        self.notes = tempfile.TemporaryFile()  # noqa: SIM115
        # A session of its own: Ctrl-C is meant for the chat, which stops what is played.
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self.notes, start_new_session=True
        )
        self.waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._feed, name="player", daemon=True)
        self.thread.start()

    def write(self, chunk: Tensor) -> None:
        """chunk (N). Raises OSError if the program has ended."""
        if self.process.poll() is not None and not self.stopped:
            self.waiting.put(None)
            self.thread.join()
            raise OSError(self.failure or "it ended before the sound did")
        self.waiting.put(self.encoder.push(chunk))

    def close(self) -> None:
        """No more of it; what is there is played."""
        self.waiting.put(self.encoder.close())
        self.waiting.put(None)
        self.thread.join(EARLY)

    def stop(self) -> None:
        """Be silent now."""
        self.stopped = True
        self.process.kill()
        self.waiting.put(None)
        self.thread.join()

    def _feed(self) -> None:
        assert self.process.stdin is not None
        cut = True
        try:
            with self.process.stdin as stream:
                while (data := self.waiting.get()) is not None:
                    stream.write(data)
                    stream.flush()
            cut = False
        except OSError:  # it has ended: the status says how
            pass
        status = self.process.wait()
        with self.notes as notes:
            notes.seek(0)
            lines = notes.read().decode(errors="replace").split("\n")
        if (status or cut) and not self.stopped:
            last = next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")
            self.failure = f"it ended with status {status}{last}"


class Player:
    """Plays one answer after another; a new one ends the one before. make_encoder: of a wav stream.

    Raises InvalidOption for a command that cannot be read, and for a program that is not there.
    """

    def __init__(self, command: str, make_encoder: Callable[[], Encoder]) -> None:
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise InvalidOption(f"player={command}: {error}", param="player") from None
        if not self.words or shutil.which(self.words[0]) is None:
            raise InvalidOption(
                f"player={command}: there is no such program; name one that plays a wav file from its standard input, "
                'as player="aplay -q" or player="ffplay -nodisp -autoexit -loglevel error -"',
                param="player",
            )
        self.command, self.make_encoder = command, make_encoder
        self.sound: PlayedSound | None = None

    @property
    def failure(self) -> str:
        """How the last answer failed, if it did."""
        return "" if self.sound is None else self.sound.failure

    def open(self) -> PlayedSound:
        """The next answer. Raises OSError if the program cannot be started."""
        self.stop()
        self.sound = PlayedSound(self.words, self.make_encoder())
        return self.sound

    def stop(self) -> None:
        """Be silent, and forget what failed."""
        if self.sound is not None:
            self.sound.stop()
        self.sound = None

    def finish(self) -> None:
        """Wait until all is played; Ctrl-C ends it."""
        if self.sound is not None:
            try:
                self.sound.thread.join()
            except KeyboardInterrupt:
                self.sound.stop()
