"""Answers spoken by a frozen Talker: every text keeps its place, an empty one is silence."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from muomni.stages.spoken_answers import SpokenAnswers


class Codec(nn.Module):
    def decode(self, codes):
        return codes.float()


class Voice:
    def say(self, texts, voices):
        return [torch.full((len(text), 1), 2) for text in texts], [False] * len(texts)


def spec(hop):
    return SimpleNamespace(facts=lambda: {"hop": hop}, sample_rate=16000)


def test_texts_keep_their_places_and_an_empty_one_is_silence():
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
    assert set(spoken.parts()) == {"talker", "codec"}
    assert spoken.facts() == {"codec_mel": {"hop": 160}}
