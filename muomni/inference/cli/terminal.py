"""Terminal input and output of the chat: line editing with a history, and styled text.

If the input is not a terminal, plain lines are read; if the output is not, only the text is written.
"""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output
from rich.console import Console
from rich.text import Text

STYLES = {r"\[OK\]": "green", r"\[WARNING\]": "yellow", r"\[CRITICAL\]": "bold red", r"^error:.*": "red"}
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # a model's text must not control the terminal
TAKES_PATH = ("/image", "/audio", "/save", "/load")


class PlainLines:
    """Lines of a stream; the prompt goes to `answers` before each."""

    def __init__(self, source: TextIO, answers: TextIO) -> None:
        self.source, self.answers = source, answers

    def read(self, prompt: str) -> str:
        """The next line. Raises EOFError at the end, KeyboardInterrupt at Ctrl-C."""
        self.answers.write(prompt)
        self.answers.flush()
        line = self.source.readline()
        if not line:
            raise EOFError
        return line.rstrip("\r\n")


class CommandCompleter(Completer):
    """Tab completes commands at the beginning of a line, and paths after the commands that take one."""

    def __init__(self, commands: Iterable[str]) -> None:
        self.commands = sorted(commands)
        self.paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """See `Completer`."""
        word, space, rest = document.text_before_cursor.partition(" ")
        if space and word in TAKES_PATH:
            yield from self.paths.get_completions(Document(rest), complete_event)
        elif not space and word.startswith("/"):
            yield from (Completion(name, start_position=-len(word)) for name in self.commands if name.startswith(word))


class TerminalLines:
    """Lines typed at a terminal: editing keys, a history across sessions (up, down, Ctrl-R), Tab completion of `commands`.

    input, output: default is this process's terminal.
    """

    def __init__(
        self, commands: Iterable[str], history: History, *, input: Input | None = None, output: Output | None = None
    ) -> None:
        self.session: PromptSession[str] = PromptSession(
            history=history,
            completer=CommandCompleter(commands),
            complete_while_typing=False,
            key_bindings=interrupt_binding(),
            input=input,
            output=output,
        )

    def read(self, prompt: str) -> str:
        """The next line. Raises EOFError at Ctrl-D, KeyboardInterrupt at Ctrl-C, both on an empty line only."""
        return self.session.prompt(ANSI(f"\x1b[1;36m{prompt}\x1b[0m"))


def interrupt_binding() -> KeyBindings:
    """Ctrl-C clears the line, and exits on an empty one."""
    bindings = KeyBindings()

    @bindings.add("c-c")
    def _(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt(), style="class:aborting")

    return bindings


class KeptHistory(FileHistory):
    """A history file; if it can no longer be written (a full disk), that is reported once, and lines are kept in memory."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        super().__init__(path)
        self.path, self.say, self.works = path, say, True

    def store_string(self, string: str) -> None:
        """Append a line to the file."""
        if self.works:
            try:
                super().store_string(string)
            except OSError as error:
                self.works = False
                self.say(f"{self.path}: the history is no longer saved there ({error.strerror}); the chat continues")


def kept_history(say: Callable[[str], None]) -> History:
    """The history in $XDG_STATE_HOME/muomni/chat_history (default ~/.local/state) with mode 0600; in memory if that cannot be
    written. say: shows a notice."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    path = Path(os.path.expanduser(state)) / "muomni" / "chat_history"
    try:
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.parent.chmod(0o700)  # also a folder created by an earlier version
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
        path.chmod(0o600)
    except OSError as error:
        say(f"{path}: the history cannot be saved there ({error.strerror})")
        return InMemoryHistory()
    return KeptHistory(path, say)


def open_lines(
    source: TextIO, answers: TextIO, commands: Iterable[str], *, say: Callable[[str], None]
) -> PlainLines | TerminalLines:
    """Lines with editing if input and output are this process's terminal, else plain. say: shows a notice."""
    if source is sys.stdin and answers is sys.stdout and source.isatty() and answers.isatty():
        return TerminalLines(commands, kept_history(say))
    return PlainLines(source, answers)


class Screen:
    """Writes answers to one stream and everything else to another; in colour on a terminal, unless NO_COLOR is set."""

    def __init__(self, answers: TextIO, notices: TextIO) -> None:
        self.answers = Console(file=answers, markup=False, highlight=False, emoji=False, soft_wrap=True)
        self.notices = Console(file=notices, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def label(self, text: str) -> None:
        """Write the label before an answer."""
        self.answers.print(Text(text, style="bold green"), end="")

    def write(self, piece: str) -> None:
        """Write a piece of an answer and flush; on a terminal without control characters."""
        stream = self.answers.file
        stream.write(CONTROL.sub("\ufffd", piece) if self.answers.is_terminal else piece)
        stream.flush()

    def say(self, text: str) -> None:
        """Write a notice on its own lines. A failure to write it (standard error on a full disk) is ignored."""
        shown = Text(text, style="dim")
        for pattern, style in STYLES.items():
            shown.highlight_regex(pattern, f"not dim {style}")
        with suppress(OSError):
            self.notices.print(shown)


class Interrupt:
    """A request to stop by Ctrl-C."""

    def __init__(self) -> None:
        self.requested = False

    def handle(self, *_: object) -> None:
        """The signal handler: the first Ctrl-C sets `requested`, the second raises KeyboardInterrupt."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Inside, Ctrl-C sets `Interrupt.requested` instead of raising, so that the caller can stop in a consistent state."""
    interrupt = Interrupt()
    before = signal.signal(signal.SIGINT, interrupt.handle)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
