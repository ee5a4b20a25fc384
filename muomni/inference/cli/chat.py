"""The interactive chat: lines in, streamed answers out, the cache kept from turn to turn."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor

from muomni.frontends.audio_io import write_sound
from muomni.inference.cli.terminal import Interrupt, Screen, interruptible, open_lines
from muomni.inference.conversation import Conversation
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.decoding.timings import Timings, cache_lines
from muomni.inference.engine import Engine
from muomni.inference.prompt import Request

LEAVE = ("exit", "quit", "q", "/quit")
PROMPT, LABEL = "You: ", "μOmni: "
HELP = """/image PATH     show a picture with the next message (or at once, with text behind: /image PATH what is it?)
/audio PATH     play a sound with the next message
/speak on|off   speak the answers, into the file of audio_out= or reply.wav
/reset          forget the conversation and what is attached
/stats          how full the cache is, and how long the last answer took
/help           this text
exit            leave (also quit, q, /quit, Ctrl-D); Ctrl-C stops an answer, and on an empty line it leaves"""


class Chat:
    """Reads lines until the user leaves.

    Args:
        options: how answers are chosen. truncate: what is too long is cut (see `Request`), not refused.
        speak_to: the wav file of spoken answers; voice: the Talker's; speak: start with speech on.
        quiet: no statistics after answers. answers: where prompts and answers go; notices: everything else.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        options: GenerationOptions,
        history: bool,
        system_prompt: str,
        truncate: bool,
        speak: bool,
        speak_to: Path,
        voice: int,
        quiet: bool,
        answers: TextIO = sys.stdout,
        notices: TextIO = sys.stderr,
    ) -> None:
        self.engine, self.options, self.quiet = engine, options, quiet
        self.conversation: Conversation = engine.conversation(history=history, system_prompt=system_prompt)
        self.truncate = truncate
        self.speak_to, self.voice, self.speaks = speak_to, voice, False
        self.answers, self.screen = answers, Screen(answers, notices)
        self.images: list[str] = []
        self.audios: list[str] = []
        self.spoken: Timings | None = None  # what speaking the last answer took
        self.commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: self.screen.say(HELP),
            "/reset": self.reset,
            "/stats": lambda _: self.statistics(),
            "/speak": self.switch_speech,
            "/image": self.attach_image,
            "/audio": self.attach_audio,
        }
        if speak:
            self.switch_speech("on")

    def run(self, source: TextIO = sys.stdin) -> None:
        """Until exit, quit, q, /quit, the end of input (Ctrl-D) or Ctrl-C on an empty line."""
        lines = open_lines(source, self.answers, [*self.commands, "/quit"], say=self.screen.say)
        while True:
            try:
                line = lines.read(PROMPT).strip()
            except (EOFError, KeyboardInterrupt):
                self.screen.write("\n")  # the cursor stands behind the prompt
                break
            if line.lower() in LEAVE:
                break
            if line:
                self.turn(line)
        self.screen.say("Goodbye.")

    def turn(self, line: str) -> None:
        """One line: a command or a message. An error in it is shown, and the chat goes on."""
        word, _, rest = line.partition(" ")
        try:
            if word in self.commands:
                self.commands[word](rest.strip())
            elif word.startswith("/") and "/" not in word[1:]:
                self.screen.say(f"unknown command {word}; available: {', '.join([*self.commands, '/quit'])}")
            else:
                self.answer(line)
        except (ValueError, OSError) as error:
            self.screen.say(f"error: {error}")
        except KeyboardInterrupt:  # the second, where the first did not help: the cache may be between two tokens
            self.screen.write("\n")
            self.reset("")

    def answer(self, text: str) -> None:
        """Answer a message, and what was attached before it. Ctrl-C stops it; what stands there then is the answer."""
        self.spoken = None
        with interruptible() as interrupt:
            reply = self.write(self.ask(text), interrupt)
            if self.speaks and reply.strip() and not interrupt.asked:
                self.speak(reply, interrupt)
        if interrupt.asked:
            self.screen.say("stopped")
        if not self.quiet:
            self.statistics()

    def ask(self, text: str) -> Iterator[str]:
        """The answer's pieces. What is attached stays so until a message is taken: one that is refused is written again."""
        request = Request(text=text, images=list(self.images), audios=list(self.audios), truncate=self.truncate)
        attached = ", ".join([*self.images, *self.audios])
        try:
            pieces = self.conversation.say(request, self.options)
        except (ValueError, OSError) as error:
            if not attached:
                raise
            raise ValueError(f"{error}; still attached: {attached} (/reset drops it)") from error
        self.images.clear()
        self.audios.clear()
        return pieces

    def write(self, pieces: Iterator[str], interrupt: Interrupt) -> str:
        """Show an answer while it comes; gives what was shown."""
        written: list[str] = []
        for piece in pieces:
            if not written:
                self.begin_answer()
            self.screen.write(piece)
            written.append(piece)
            if interrupt.asked:
                break
        if not written:
            self.begin_answer()
        self.screen.write("\n")
        return "".join(written)

    def begin_answer(self) -> None:
        """What became of the history, if anything, and the label."""
        if self.conversation.notice:
            self.screen.say(self.conversation.notice)
        self.screen.label(LABEL)

    def speak(self, reply: str, interrupt: Interrupt) -> None:
        """Into the file; up to the chunk at which Ctrl-C was pressed."""
        chunks: list[Tensor] = []
        for chunk in self.engine.speak_stream(reply, voice=self.voice):
            chunks.append(chunk)
            if interrupt.asked:
                break
        write_sound(self.speak_to, torch.cat(chunks), self.engine.speech_rate)
        self.spoken = self.engine.timings
        self.screen.say(f"spoken: {self.speak_to}{self.spoken.cut_note()}")

    def attach_image(self, rest: str) -> None:
        """`PATH [message]`: keep the picture for the next message, or send it with the message behind it."""
        path, message = split_path(rest)
        # What cannot be seen is said now.
        self.engine.require_prompter().encode_media(Request(images=[path], truncate=self.truncate))
        self.attach(path, self.images, message)

    def attach_audio(self, rest: str) -> None:
        """The same for a sound."""
        path, message = split_path(rest)
        # What cannot be heard is said now, and what is too long.
        self.engine.require_prompter().encode_media(Request(audios=[path], truncate=self.truncate))
        self.attach(path, self.audios, message)

    def attach(self, path: str, where: list[str], message: str) -> None:
        """Keep a file for the next message, or send it with one."""
        if path not in where:  # it is, where a refused line is sent again
            where.append(path)
        if message:
            self.answer(message)
        else:
            self.screen.say(f"attached to the next message: {path}")

    def switch_speech(self, rest: str) -> None:
        """on or off."""
        if rest not in ("on", "off"):
            raise ValueError("/speak takes on or off")
        if rest == "on":
            self.engine.require_speaker()
        self.speaks = rest == "on"
        to = f": answers go to {self.speak_to}, {self.engine.vocoder_note}" if self.speaks else ""
        self.screen.say(f"speech {rest}{to}")

    def reset(self, _: str) -> None:
        """Forget the conversation and what was attached."""
        self.conversation.reset()
        self.images.clear()
        self.audios.clear()
        self.screen.say("the conversation starts anew")

    def statistics(self) -> None:
        """Cache and timings."""
        lines = cache_lines(self.conversation.cache.position, self.conversation.cache.capacity)
        lines += self.conversation.timings.lines()
        lines += [] if self.spoken is None else self.spoken.lines()
        self.screen.say("\n".join(lines))


def split_path(rest: str) -> tuple[str, str]:
    """`PATH message` -> both; the longest beginning that is a file is the path. Raises for a missing file."""
    words = rest.split(" ")
    for count in range(len(words), 0, -1):
        path = os.path.expanduser(" ".join(words[:count]).strip("\"'"))  # unlike Path's, no error for an unknown ~name
        if os.path.isfile(path):  # nor for a message that is too long to be a name
            return path, " ".join(words[count:]).strip()
    raise FileNotFoundError(f"no such file: {words[0] or '(a path is needed)'}")
