"""The interactive chat: lines in, streamed answers out, the cache kept from turn to turn."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from muomni.frontends.audio_io import write_wav
from muomni.inference.conversation import Conversation
from muomni.inference.engine import Engine
from muomni.inference.prompt import Request
from muomni.inference.sampling import GenerationOptions
from muomni.inference.stats import cache_lines

LEAVE = ("exit", "quit", "q", "/quit")
HELP = """/image PATH     show a picture with the next message (or at once, with text behind: /image PATH what is it?)
/audio PATH     play a sound with the next message
/speak on|off   speak the answers, into the file of audio_out= or reply.wav
/reset          forget the conversation
/stats          how full the cache is, and how long the last answer took
/help           this text
exit            leave (also quit, q, /quit, end of input)"""


class Chat:
    """Reads lines until the user leaves.

    Args:
        options: how answers are chosen. speak_to: the wav file of spoken answers. speak: start with speech on.
        quiet: no statistics after answers. answers: where prompts and answers go; notices: everything else.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        options: GenerationOptions,
        history: bool,
        system_prompt: str,
        speak: bool,
        speak_to: Path,
        quiet: bool,
        answers: TextIO = sys.stdout,
        notices: TextIO = sys.stderr,
    ) -> None:
        self.engine, self.options, self.quiet = engine, options, quiet
        self.conversation: Conversation = engine.conversation(history=history, system_prompt=system_prompt)
        self.speak_to, self.speaks = speak_to, False
        self.answers, self.notices = answers, notices
        self.images: list[str] = []
        self.audios: list[str] = []
        self.commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: self.say(HELP),
            "/reset": self.reset,
            "/stats": lambda _: self.statistics(),
            "/speak": self.switch_speech,
            "/image": lambda rest: self.attach(rest, self.images),
            "/audio": lambda rest: self.attach(rest, self.audios),
        }
        if speak:
            self.switch_speech("on")

    def run(self, source: TextIO = sys.stdin) -> None:
        """Until exit, quit, q, /quit or the end of input."""
        while True:
            self.answers.write("You: ")
            self.answers.flush()
            line = source.readline()
            if not line or line.strip().lower() in LEAVE:
                self.answers.write("" if line else "\n")
                return
            if line.strip():
                self.turn(line.strip())

    def turn(self, line: str) -> None:
        """One line: a command or a message. An error in it is shown, and the chat goes on."""
        word, _, rest = line.partition(" ")
        try:
            if word in self.commands:
                self.commands[word](rest.strip())
            elif word.startswith("/") and "/" not in word[1:]:
                self.say(f"unknown command {word}; available: {', '.join([*self.commands, '/quit'])}")
            else:
                self.answer(line)
        except (ValueError, FileNotFoundError) as error:
            self.say(f"error: {error}")

    def answer(self, text: str) -> None:
        """Answer a message, and what was attached before it."""
        request = Request(text=text, images=list(self.images), audios=list(self.audios))
        self.images.clear()
        self.audios.clear()
        written: list[str] = []
        for piece in self.conversation.say(request, self.options):
            self.answers.write(piece if written else f"μOmni: {piece}")
            self.answers.flush()
            written.append(piece)
        self.answers.write("\n" if written else "μOmni: \n")
        self.answers.flush()
        if self.conversation.notice:
            self.say(self.conversation.notice)
        reply = "".join(written)
        if self.speaks and reply.strip():
            write_wav(self.speak_to, self.engine.generate_speech(reply), self.engine.speech_rate)
            self.say(f"spoken: {self.speak_to}")
        if not self.quiet:
            self.statistics()

    def attach(self, rest: str, where: list[str]) -> None:
        """`PATH [message]`: keep the file for the next message, or send it with the message behind it."""
        path, message = split_path(rest)
        where.append(path)
        if message:
            self.answer(message)
        else:
            self.say(f"attached to the next message: {path}")

    def switch_speech(self, rest: str) -> None:
        """on or off."""
        if rest not in ("on", "off"):
            raise ValueError("/speak takes on or off")
        if rest == "on":
            self.engine.need_speaker()
        self.speaks = rest == "on"
        self.say(f"speech {rest}" + (f": answers go to {self.speak_to}" if self.speaks else ""))

    def reset(self, _: str) -> None:
        """Forget the conversation and what was attached."""
        self.conversation.reset()
        self.images.clear()
        self.audios.clear()
        self.say("the conversation starts anew")

    def statistics(self) -> None:
        """Cache and timings."""
        lines = cache_lines(self.conversation.cache.position, self.conversation.cache.capacity)
        timings = self.conversation.timings.lines()
        if self.speaks:
            timings += self.engine.timings.lines()
        self.say("\n".join(lines + timings))

    def say(self, text: str) -> None:
        """To the notices, never among the answers."""
        self.notices.write(f"{text}\n")
        self.notices.flush()


def split_path(rest: str) -> tuple[str, str]:
    """`PATH message` -> both; the longest beginning that is a file is the path. Raises for a missing file."""
    words = rest.split(" ")
    for count in range(len(words), 0, -1):
        path = " ".join(words[:count]).strip("\"'")
        if path and Path(path).expanduser().is_file():
            return str(Path(path).expanduser()), " ".join(words[count:]).strip()
    raise FileNotFoundError(f"no such file: {words[0] or '(a path is needed)'}")
