"""The interactive chat: lines in, streamed answers out, on one cache for all turns."""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from muomni.inference.cli.player import Player
from muomni.inference.cli.sound_out import FileSound, SoundOut, spoken_pieces
from muomni.inference.cli.terminal import Interrupt, Screen, interruptible, open_lines
from muomni.inference.conversation import Conversation
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.decoding.timings import Timings, cache_lines
from muomni.inference.engine import Engine
from muomni.inference.prompt import Request

LEAVE = ("exit", "quit", "q", "/quit")
PROMPT, LABEL = "You: ", "μOmni: "
HELP = """/image PATH     attach an image to the next message (or send it at once with text: /image PATH what is it?)
/audio PATH     attach an audio file to the next message
/speak on|off   speak the answers while they are written: by player=, else into the file of audio_out= or reply.wav
/reset          forget the conversation and what is attached
/save FILE      write the conversation to a JSON file
/load FILE      continue a saved conversation
/stats          fill of the cache, and timings of the last answer
/help           this text
exit            leave (also quit, q, /quit, Ctrl-D); Ctrl-C stops an answer, and on an empty line it leaves"""


class Chat:
    """Reads lines until the user leaves.

    Args:
        truncate: see `Request`. speak_to: the file of spoken answers, unless a player plays them. how: options of
            `Engine.speak_along`. speak: start with speech on. quiet: no statistics after answers. answers: the stream of prompts
            and answers; notices: that of everything else.
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
        speak_to: str,
        player: Player | None,
        how: dict[str, Any],
        quiet: bool,
        answers: TextIO = sys.stdout,
        notices: TextIO = sys.stderr,
    ) -> None:
        self.engine, self.options, self.quiet = engine, options, quiet
        self.conversation: Conversation = engine.conversation(history=history, system_prompt=system_prompt)
        self.truncate = truncate
        self.speak_to, self.player, self.how, self.speaks = speak_to, player, how, False
        self.answers, self.screen = answers, Screen(answers, notices)
        self.images: list[str] = []
        self.audios: list[str] = []
        self.spoken: Timings | None = None  # of speaking the last answer
        self.commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: self.screen.say(HELP),
            "/reset": self.reset,
            "/save": self.save,
            "/load": self.load,
            "/stats": lambda _: self.statistics(),
            "/speak": self.switch_speech,
            "/image": self.attach_image,
            "/audio": self.attach_audio,
        }
        if speak:
            self.switch_speech("on")

    def run(self, source: TextIO = sys.stdin) -> None:
        """Chat until exit, quit, q, /quit, the end of input (Ctrl-D) or Ctrl-C on an empty line."""
        lines = open_lines(source, self.answers, [*self.commands, "/quit"], say=self.screen.say)
        while True:
            try:
                line = lines.read(PROMPT).strip()
            except (EOFError, KeyboardInterrupt):
                self.screen.write("\n")  # the cursor is after the prompt
                break
            if line.lower() in LEAVE:
                break
            if line:
                self.turn(line)
        self.screen.say("Goodbye.")
        if self.player is not None:
            self.player.finish()

    def turn(self, line: str) -> None:
        """Run one line, a command or a message. An error is shown, and the chat continues."""
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
        except KeyboardInterrupt:  # the second one: the cache may be inconsistent
            self.screen.write("\n")
            self.reset("")

    def answer(self, text: str) -> None:
        """Answer a message with its attachments, spoken meanwhile. Ctrl-C stops both; the text so far is the answer."""
        self.spoken = None
        with interruptible() as interrupt:
            self.deliver(self.ask(text), interrupt)
        if interrupt.requested:
            self.screen.say("stopped")
        if not self.quiet:
            self.statistics()

    def deliver(self, pieces: Iterator[str], interrupt: Interrupt) -> None:
        """Write an answer, and speak it, in one loop."""
        sound = self.open_sound() if self.speaks else None
        if sound is None:
            self.write(pieces, interrupt)
            return
        self.spoken, failed = Timings(), list[str]()  # a line is said below the answer, not in it
        how = self.how | {"timings": self.spoken}
        self.write(spoken_pieces(self.engine, pieces, sound, failed=failed.append, **how), interrupt)
        for line in failed:
            self.mute(line)
        if not failed:
            self.close_sound(sound, interrupt)

    def open_sound(self) -> SoundOut | None:
        """Where the next answer is spoken to; None if that fails, which is said."""
        if self.player is None:
            return FileSound(self.speak_to, self.engine.speech_rate)
        if self.player.failure:  # of the answer before, after its last block
            self.mute(f"{self.player.command}: {self.player.failure}")
            return None
        try:
            return self.player.open()
        except OSError as error:
            self.mute(f"{self.player.command}: {error.strerror or error}")
            return None

    def close_sound(self, sound: SoundOut, interrupt: Interrupt) -> None:
        """The answer has ended, or was stopped: a file holds what was spoken by then, a player is silent."""
        assert self.spoken is not None
        if self.player is not None and interrupt.requested:
            self.player.stop()
        elif self.spoken.audio_seconds:
            sound.close()
            if self.player is None:
                self.screen.say(f"spoken: {self.speak_to}{self.spoken.cut_note()}")
            elif self.player.failure:
                self.mute(f"{self.player.command}: {self.player.failure}")

    def mute(self, line: str) -> None:
        """The sound has failed, which a line says: answers are written from now on."""
        self.speaks = False
        if self.player is not None:
            self.player.stop()
        self.screen.say(f"error: {line} (/speak on tries again)")

    def ask(self, text: str) -> Iterator[str]:
        """The answer's pieces. Attachments are kept until a message is accepted, so that a rejected one can be sent again."""
        request = Request(text=text, images=list(self.images), audios=list(self.audios), truncate=self.truncate)
        attached = ", ".join([*self.images, *self.audios])
        try:
            pieces = self.conversation.say(request, self.options).texts()
        except (ValueError, OSError) as error:
            if not attached:
                raise
            raise ValueError(f"{error}; still attached: {attached} (/reset drops it)") from error
        self.images.clear()
        self.audios.clear()
        return pieces

    def write(self, pieces: Iterator[str], interrupt: Interrupt) -> str:
        """Stream an answer to the screen; returns its text."""
        written: list[str] = []
        for piece in pieces:
            if not written:
                self.begin_answer()
            self.screen.write(piece)
            written.append(piece)
            if interrupt.requested:
                break
        if not written:
            self.begin_answer()
        self.screen.write("\n")
        return "".join(written)

    def begin_answer(self) -> None:
        """Show the conversation's notice, if any, and the label."""
        if self.conversation.notice:
            self.screen.say(self.conversation.notice)
        self.screen.label(LABEL)

    def attach_image(self, rest: str) -> None:
        """`PATH [message]`: attach the image to the next message, or send it with this one."""
        path, message = split_path(rest)
        # Raises for an unreadable image now, not with the message.
        self.engine.require_prompter().encode_media(Request(images=[path], truncate=self.truncate))
        self.attach(path, self.images, message)

    def attach_audio(self, rest: str) -> None:
        """The same for an audio file."""
        path, message = split_path(rest)
        # Raises for unreadable or too long audio now, not with the message.
        self.engine.require_prompter().encode_media(Request(audios=[path], truncate=self.truncate))
        self.attach(path, self.audios, message)

    def attach(self, path: str, attached: list[str], message: str) -> None:
        """Add a file to the attachments; send them if there is a message."""
        if path not in attached:  # it is if a rejected line is sent again
            attached.append(path)
        if message:
            self.answer(message)
        else:
            self.screen.say(f"attached to the next message: {path}")

    def switch_speech(self, rest: str) -> None:
        """`/speak on`, `/speak off`."""
        if rest not in ("on", "off"):
            raise ValueError("/speak takes on or off")
        if rest == "on":
            self.how = self.how | {"voice": self.engine.require_speaker().voice(self.how["voice"])}
        self.speaks = rest == "on"
        target = self.speak_to if self.player is None else self.player.command
        to = f": answers go to {target}, {self.engine.vocoder_note}" if self.speaks else ""
        self.screen.say(f"speech {rest}{to}")

    def reset(self, _: str) -> None:
        """Forget the conversation and the attachments."""
        self.conversation.reset()
        self.images.clear()
        self.audios.clear()
        self.screen.say("the conversation starts again")

    def save(self, rest: str) -> None:
        """`/save FILE`."""
        self.engine.save_conversation(rest, self.conversation)
        self.screen.say(f"saved: {rest}, {len(self.conversation.turns)} turns")

    def load(self, rest: str) -> None:
        """`/load FILE`: the conversation of before is forgotten once the other is there."""
        if not self.conversation.history:
            raise ValueError("history=false forgets every turn: start the chat without it to continue a conversation")
        self.conversation = self.engine.load_conversation(rest)
        self.screen.say(f"loaded: {rest}, {len(self.conversation.turns)} turns")

    def statistics(self) -> None:
        """Show cache and timings."""
        lines = cache_lines(self.conversation.cache.position, self.conversation.cache.capacity)
        lines += self.conversation.timings.lines()
        lines += [] if self.spoken is None else self.spoken.lines()
        self.screen.say("\n".join(lines))


def split_path(rest: str) -> tuple[str, str]:
    """`PATH message` -> both; the longest prefix that is a file is the path. Raises FileNotFoundError for a missing file."""
    words = rest.split(" ")
    for count in range(len(words), 0, -1):
        path = os.path.expanduser(" ".join(words[:count]).strip("\"'"))  # unlike Path's, no error for an unknown ~user
        if os.path.isfile(path):  # unlike Path's, no error for a message too long to be a name
            return path, " ".join(words[count:]).strip()
    raise FileNotFoundError(f"no such file: {words[0] or '(a path is needed)'}")
