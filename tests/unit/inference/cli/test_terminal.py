"""Lines that are typed and text that is shown, one side at a time; both together: test_chat_terminal.py."""

import errno
import io
import os
import signal
import stat
from contextlib import suppress

import pytest
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from muomni.inference.cli.terminal import (
    CommandCompleter,
    KeptHistory,
    PlainLines,
    Screen,
    TerminalLines,
    interruptible,
    kept_history,
    open_lines,
)

UP, CTRL_A, CTRL_C, CTRL_D, CTRL_K, BACKSPACE = "\x1b[A", "\x01", "\x03", "\x04", "\x0b", "\x7f"


@pytest.fixture
def typed():
    """Keys -> what each call of `read` gives: a line, or the error that it raises."""

    def type_in(keys, *, history=None):
        results = []
        with create_pipe_input() as pipe:
            pipe.send_text(keys)
            lines = TerminalLines(["/help"], history or InMemoryHistory(), input=pipe, output=DummyOutput())
            while not results or isinstance(results[-1], str):
                try:
                    results.append(lines.read("You: "))
                except (EOFError, KeyboardInterrupt) as error:
                    results.append(type(error))
        return results

    return type_in


def test_a_line_is_edited(typed):
    assert typed(f"tell mx{BACKSPACE}e\rworld{CTRL_A}hello \rlost{CTRL_A}{CTRL_K}kept\r{CTRL_D}") == [
        "tell me", "hello world", "kept", EOFError
    ]  # fmt: skip


def test_ctrl_c_throws_a_line_away_and_leaves_on_an_empty_one(typed):
    assert typed(f"half a li{CTRL_C}whole\r{CTRL_C}") == ["whole", KeyboardInterrupt]


def test_the_history_outlives_the_session(typed, tmp_path):
    typed(f"first\rsecond\r{CTRL_D}", history=FileHistory(tmp_path / "lines"))
    assert typed(f"{UP}{UP}\r{CTRL_D}", history=FileHistory(tmp_path / "lines")) == ["first", EOFError]


def test_the_history_lies_in_the_state_folder_for_its_owner_alone_or_in_memory(monkeypatch, tmp_path):
    said = []
    path = tmp_path / "state" / "muomni" / "chat_history"
    path.parent.mkdir(parents=True)
    path.touch()  # of an earlier version, for all to read
    path.chmod(0o644)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert isinstance(kept_history(said.append), FileHistory)
    assert [stat.S_IMODE(entry.stat().st_mode) for entry in (path.parent, path)] == [0o700, 0o600]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "new"))
    kept_history(said.append)
    new = tmp_path / "new" / "muomni"
    assert [stat.S_IMODE(entry.stat().st_mode) for entry in (new, new / "chat_history")] == [0o700, 0o600]
    assert not said
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert isinstance(kept_history(said.append), InMemoryHistory)
    assert len(said) == 1 and "cannot be saved there" in said[0]


def test_a_full_disk_is_said_once_and_the_lines_go_on(typed, tmp_path, monkeypatch):
    def refuse(self, string):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FileHistory, "store_string", refuse)
    said = []
    history = KeptHistory(tmp_path / "lines", said.append)
    assert typed(f"first\rsecond\r{CTRL_D}", history=history) == ["first", "second", EOFError]
    assert history.get_strings() == ["first", "second"]
    assert len(said) == 1 and "No space left on device" in said[0] and str(tmp_path / "lines") in said[0]


def test_a_notice_that_cannot_be_shown_ends_nothing():
    with open("/dev/full", "w") as full:
        Screen(io.StringIO(), full).say("spoken: reply.wav")
        with suppress(OSError):
            full.close()


def test_tab_completes_commands_and_paths(tmp_path):
    (tmp_path / "picture.png").touch()
    completer = CommandCompleter(["/image", "/help", "/audio"])

    def completions(text):
        return [completion.text for completion in completer.get_completions(Document(text), None)]

    assert completions("/") == ["/audio", "/help", "/image"]
    assert completions("/he") == ["/help"]
    assert completions(f"/image {tmp_path}/pic") == ["ture.png"]
    assert completions("tell") == completions("/speak o") == []


def test_lines_of_a_pipe_come_as_they_are():
    answers = io.StringIO()
    lines = open_lines(io.StringIO("one\r\n\nlast"), answers, [], say=print)
    assert isinstance(lines, PlainLines)
    assert [lines.read("You: ") for _ in range(3)] == ["one", "", "last"]
    with pytest.raises(EOFError):
        lines.read("You: ")
    assert answers.getvalue() == "You: " * 4


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_colours_and_no_control_characters(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    answers, notices = Terminal(), Terminal()
    screen = Screen(answers, notices)
    screen.label("μOmni: ")
    screen.write("a\x1b[2Jb\tc\n")
    screen.say("error: 12 / 20 (60%) [OK]")
    assert answers.getvalue().endswith("a\ufffd[2Jb\tc\n") and "\x1b[" in answers.getvalue()
    assert "\x1b[" in notices.getvalue()


def test_a_file_gets_the_text_alone():
    answers, notices = io.StringIO(), io.StringIO()
    screen = Screen(answers, notices)
    screen.label("μOmni: ")
    screen.write("a\x1b[2Jb")
    screen.say("error: [bold]no markup[/bold] [WARNING] " + "long " * 40 + "\nsecond :smile:")
    assert answers.getvalue() == "μOmni: a\x1b[2Jb"
    assert notices.getvalue() == "error: [bold]no markup[/bold] [WARNING] " + "long " * 40 + "\nsecond :smile:\n"


def test_the_first_ctrl_c_asks_and_the_second_insists():
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as interrupt:
        assert not interrupt.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
