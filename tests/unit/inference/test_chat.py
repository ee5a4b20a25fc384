import io

import pytest

from muomni.inference.chat import Chat, split_path
from muomni.inference.sampling import preset
from muomni.inference.stats import cache_lines


def talk(engine, lines, tmp_path, **options):
    answers, notices = io.StringIO(), io.StringIO()
    settings = {"history": True, "system_prompt": "", "speak": False, "voice": 0, "quiet": True} | options
    chat = Chat(
        engine, options=preset("greedy", max_new_tokens=6), speak_to=tmp_path / "reply.wav",
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


def test_mistakes_are_shown_and_the_chat_goes_on(engine, tmp_path):
    _, answers, notices = talk(engine, ["/image gone.png", "/speak loud", "what " * 200, "tell me"], tmp_path)
    assert "no such file: gone.png" in notices
    assert "on or off" in notices
    assert "Too many tokens" in notices
    assert answers.count("μOmni: ") == 1


def test_spoken_answers_reach_a_file(engine, tmp_path):
    talk(engine, ["/speak on", "tell me"], tmp_path)
    assert (tmp_path / "reply.wav").stat().st_size > 1000


def test_paths_with_spaces_are_found(tmp_path):
    (tmp_path / "a b.png").touch()
    assert split_path(f"{tmp_path}/a b.png what is it?") == (f"{tmp_path}/a b.png", "what is it?")


@pytest.mark.parametrize(
    ("position", "state"), [(0, "OK"), (1535, "OK"), (1536, "WARNING"), (1843, "WARNING"), (1844, "CRITICAL")]
)
def test_the_cache_is_reported(position, state):
    lines = cache_lines(position, 2048)
    assert lines[0] == "KV Cache usage:"
    assert lines[1].startswith(f"  Position: {position} / 2048 (")
    assert lines[1].endswith(f"[{state}]")
    assert lines[2] == f"  Remaining capacity: {2048 - position} tokens"
