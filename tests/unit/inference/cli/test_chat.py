import io
import re
import shlex
import sys

import numpy as np
import pytest
import soundfile
import torch

from muomni.frontends.audio_io import read_audio
from muomni.inference.answer import AnswerStream, Piece
from muomni.inference.cli.chat import Chat, split_path
from muomni.inference.cli.player import Player
from muomni.inference.decoding.options import preset
from muomni.inference.decoding.timings import Timings, cache_lines
from muomni.inference.errors import InvalidOption
from muomni.serving.audio_format import make_encoder

HOW = {"voice": 0, "look_ahead": None, "ended": lambda _: None}


def talk(engine, lines, tmp_path, **options):
    answers, notices = io.StringIO(), io.StringIO()
    settings = {
        "history": True,
        "system_prompt": "",
        "truncate": False,
        "speak": False,
        "player": None,
        "how": HOW,
        "quiet": True,
    } | options
    chat = Chat(
        engine, options=preset("greedy", max_new_tokens=6), speak_to=str(tmp_path / "reply.wav"),
        answers=answers, notices=notices, **settings,
    )  # fmt: skip
    chat.run(io.StringIO("".join(f"{line}\n" for line in lines)))
    return chat, answers.getvalue(), notices.getvalue()


@pytest.mark.parametrize("word", ["exit", "quit", "q", "/quit", "EXIT"])
def test_it_leaves(engine, tmp_path, word):
    _, answers, _ = talk(engine, ["tell me", word, "never read"], tmp_path)
    assert answers.count("You: ") == 2
    assert answers.count("μOmni: ") == 1


def test_answers_and_notices_are_apart(engine, tmp_path):
    _, answers, notices = talk(engine, ["tell me", "/help", "/stats", "/nonsense"], tmp_path, quiet=False)
    assert "KV Cache usage" not in answers
    assert "KV Cache usage:\n  Position: " in notices
    assert "/image PATH" in notices
    assert "unknown command /nonsense; available: /help" in notices
    assert "lm-head" in notices


def test_reset_forgets(engine, tmp_path):
    chat, _, _ = talk(engine, ["tell me", "/reset"], tmp_path)
    assert chat.conversation.cache.position == 0
    chat, _, _ = talk(engine, ["tell me", "what colour"], tmp_path)
    assert chat.conversation.cache.position > 20


def test_pictures_and_sounds_are_attached(engine, tmp_path, picture, sound):
    chat, answers, notices = talk(engine, [f"/image {picture} what colour", f"/audio {sound}", "tell me"], tmp_path)
    assert answers.count("μOmni: ") == 2
    assert "attached" in notices
    assert not chat.images
    assert not chat.audios


def test_what_is_attached_stays_until_a_message_is_taken(engine, tmp_path, picture, sound):
    """Also where the whole line, with its path, is sent again: it is attached once."""
    asked = []
    lines = [f"/audio {sound}", f"/image {picture} {'what ' * 200}"]
    chat, _, notices = talk(engine, lines, tmp_path)
    assert "(/reset drops it)" in notices and f"still attached: {picture}, {sound}" in notices
    assert (chat.images, chat.audios) == ([str(picture)], [str(sound)])
    chat.conversation.say = lambda request, options: (
        asked.append(request) or AnswerStream(iter([Piece("yes")]), Timings())
    )
    chat.turn(f"/image {picture} what")
    chat.turn("what")
    assert [(one.images, one.audios) for one in asked] == [([str(picture)], [str(sound)]), ([], [])]


def test_a_sound_that_no_message_could_hold_is_refused_when_it_is_attached(engine, tmp_path):
    """Else each later message were refused because of it."""
    soundfile.write(tmp_path / "long.wav", np.zeros(16000 * 60, dtype=np.float32), 16000)
    chat, answers, notices = talk(engine, [f"/audio {tmp_path}/long.wav", "tell me"], tmp_path)
    assert "a quarter of the context" in notices
    assert not chat.audios and answers.count("μOmni: ") == 1
    _, answers, notices = talk(engine, [f"/audio {tmp_path}/long.wav", "what " * 200], tmp_path, truncate=True)
    assert "error" not in notices and answers.count("μOmni: ") == 1


def test_an_answer_and_speech_that_a_limit_cut_off_say_so(engine, tmp_path):
    """This Talker was never trained to stop."""
    _, _, notices = talk(engine, ["/speak on", "tell me"], tmp_path, quiet=False)
    assert "generated: 6 tokens, cut off by max_new_tokens or a full context, model" in notices
    frames = re.search(r"speech: (\d+) frames", notices).group(1)
    assert f"spoken: {tmp_path}/reply.wav, cut off after {frames} frames: speak shorter texts" in notices


def test_an_answer_that_ends_otherwise_is_not_called_cut_off(engine):
    answer = engine.answer("tell me", max_new_tokens=6)
    assert answer.timings.text_cut
    stopped = engine.answer("tell me", max_new_tokens=6, stop=[answer.text[2:4]])
    assert answer.text.startswith(stopped.text)
    assert not stopped.timings.text_cut
    best = engine.answer("tell me", max_new_tokens=6, num_beams=2)
    assert best.timings.text_cut == (best.timings.new_tokens == 6)


def test_mistakes_are_shown_and_the_chat_goes_on(engine, tmp_path):
    _, answers, notices = talk(engine, ["/image gone.png", "/speak loud", "what " * 200, "tell me"], tmp_path)
    assert "no such file: gone.png" in notices
    assert "on or off" in notices
    assert "Too many tokens" in notices
    assert answers.count("μOmni: ") == 1


def test_spoken_answers_reach_a_file(engine, tmp_path):
    """It holds the samples of the whole answer."""
    chat, _, _ = talk(engine, ["/speak on", "tell me"], tmp_path)
    spoken = engine.generate_speech(chat.conversation.turns[-1].text)
    written = read_audio(tmp_path / "reply.wav", engine.speech_rate)
    torch.testing.assert_close(written, spoken, atol=1e-4, rtol=0)


class Recorder:
    """A sound that keeps what comes, and fails at its n-th block."""

    target = "the device"

    def __init__(self, events, fails_at=None):
        self.events, self.fails_at = events, fails_at

    def write(self, chunk):
        self.events.append("sound")
        if self.fails_at == self.events.count("sound"):
            raise OSError(5, "Input/output error")

    def close(self):
        self.events.append("closed")


def told(engine, tmp_path, pieces, sound, events):
    """A chat in which the model says these pieces, and what it shows."""
    chat, _, _ = talk(engine, [], tmp_path, speak=True)
    chat.open_sound = lambda: sound
    chat.conversation.say = lambda *_: AnswerStream((events.append(each) or Piece(each) for each in pieces), Timings())
    chat.turn("tell me")
    return chat, chat.answers.getvalue()


def test_an_answer_is_spoken_while_it_is_written(engine, tmp_path):
    events = []
    pieces = ["One sentence. ", "Another one. ", "The last one."]
    told(engine, tmp_path, pieces, Recorder(events), events)
    assert events.index("sound") < events.index(pieces[2])
    assert events[-2:] == ["sound", "closed"]


def test_a_device_that_fails_is_a_line_and_the_text_goes_on(engine, tmp_path):
    events, pieces = [], ["One sentence. ", "Another one. ", "A third one. ", "The last one."]
    chat, answers = told(engine, tmp_path, pieces, Recorder(events, fails_at=1), events)
    assert "".join(pieces) in answers
    assert events.count("sound") == 1
    notices = chat.screen.notices.file.getvalue()
    line = "error: the device: Input/output error; the answer goes on without sound (/speak on tries again)\n"
    assert notices.count(line) == 1
    assert not chat.speaks


def player(code, engine):
    """A program of Python that plays."""
    return Player(
        f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}", lambda: make_encoder("wav", engine.speech_rate)
    )


def test_a_player_gets_a_wav_file(engine, tmp_path):
    copies = f"import sys; open({str(tmp_path / 'played.wav')!r}, 'wb').write(sys.stdin.buffer.read())"
    chat, _, notices = talk(engine, ["tell me"], tmp_path, speak=True, player=player(copies, engine))
    assert f"answers go to {chat.player.command}" in notices
    spoken = engine.generate_speech(chat.conversation.turns[-1].text)
    played = read_audio(tmp_path / "played.wav", engine.speech_rate)
    torch.testing.assert_close(played, spoken.clamp(-1, 1), atol=1e-4, rtol=0)
    assert not (tmp_path / "reply.wav").exists()


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("import sys; sys.exit('no sound card')", "it ended with status 1: no sound card"),
        ("import sys; sys.stdin.buffer.read(1000)", "it ended"),
    ],
)
def test_a_player_that_fails_is_a_line_and_answers_go_on(engine, tmp_path, code, line):
    failing = player(code, engine)
    chat, answers, notices = talk(engine, ["tell me", "tell me", "tell me"], tmp_path, speak=True, player=failing)
    assert answers.count("μOmni: ") == 3
    assert notices.count("error: ") <= 1
    if chat.speaks:  # a busy machine: it ended after the last answer
        failing.sound.thread.join()
    assert line in notices + failing.failure


def test_a_player_is_silent_when_it_is_told_to_and_a_new_answer_ends_the_last(engine):
    sleeper = player("import time; time.sleep(600)", engine)
    first = sleeper.open()
    first.write(torch.zeros(500_000))  # more than a pipe holds
    second = sleeper.open()
    assert first.process.poll() is not None and second.process.poll() is None
    sleeper.stop()
    assert second.process.poll() is not None
    assert not first.failure and not sleeper.failure


@pytest.mark.parametrize(
    ("command", "line"), [("no-such-player -q", "no such program"), ("a 'b", "No closing"), (" ", "no such")]
)
def test_a_player_that_is_not_there_is_named(engine, command, line):
    with pytest.raises(InvalidOption, match=f"player={command}: .*{line}"):
        Player(command, lambda: None)


def test_paths_with_spaces_are_found(tmp_path):
    (tmp_path / "a b.png").touch()
    assert split_path(f"{tmp_path}/a b.png what is it?") == (f"{tmp_path}/a b.png", "what is it?")
    for missing in ("~nobody-of-this-name/a.png", "", "gone.png"):
        with pytest.raises(FileNotFoundError, match="no such file"):
            split_path(missing)


@pytest.mark.parametrize(
    ("position", "state"), [(0, "OK"), (1535, "OK"), (1536, "WARNING"), (1843, "WARNING"), (1844, "CRITICAL")]
)
def test_the_cache_is_reported(position, state):
    lines = cache_lines(position, 2048)
    assert lines[0] == "KV Cache usage:"
    assert lines[1].startswith(f"  Position: {position} / 2048 (")
    assert lines[1].endswith(f"[{state}]")
    assert lines[2] == f"  Remaining capacity: {2048 - position} tokens"
