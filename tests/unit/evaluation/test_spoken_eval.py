"""Answers spoken by a frozen Talker: every text keeps its place, an empty one is silence."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from muomni.evaluation.spoken_eval import SpokenAnswers
from muomni.frontends.text_normalizer import LETTERS, speak_out


class Codec(nn.Module):
    def decode(self, codes):
        return codes.float()


class Voice:
    def in_words(self, text):
        return speak_out(text, LETTERS)

    def say(self, texts, voices):
        return [torch.full((len(text), 1), 2) for text in texts], [False] * len(texts)


def spec(hop):
    return SimpleNamespace(facts=lambda: {"hop": hop}, sample_rate=16000)


def test_texts_keep_their_places_and_an_empty_one_is_silence(caplog):
    export = SimpleNamespace(
        parts={"talker": nn.Identity(), "codec": Codec()},
        facts={"stage": "talker", "run": {}, "codec_mel": {"hop": 160}},
        folder="checkpoints/talker",
    )
    options = {
        "talker": export,
        "voice": lambda talker, codec: Voice(),
        "vocoder": lambda mel: mel.flatten(),
        "judge": lambda sounds: ["x" * len(sound) for sound in sounds],
    }
    spoken = SpokenAnswers(mel=spec(160), **options)
    with pytest.raises(ValueError, match="checkpoints/talker: codec_mel differs.*'hop': 160.*'hop': 1280"):
        SpokenAnswers(mel=spec(1280), **options)
    heard, sounds = spoken.heard(["abc", " ", "z"])
    assert heard == ["xxx", "", "x"]
    assert sounds[1] is None
    assert [len(sound) for sound in (sounds[0], sounds[2])] == [3, 1]
    assert spoken.heard([""]) == ([""], [None])
    heard, sounds = spoken.heard(["5", "...", "日本 a"])
    assert heard == ["xxxx", "", "x"]  # four, nothing to speak, a: as inference says them
    assert sounds[1] is None
    assert "1 of 3 answers hold characters that cannot be spoken; the first: '日本'" in caplog.text
    assert spoken.in_words(["7 - 2 = 5"]) == ["seven minus two is five"]
    assert set(spoken.parts()) == {"talker", "codec"}
    assert spoken.facts() == {"codec_mel": {"hop": 160}}
