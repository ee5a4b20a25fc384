"""Answers spoken by a frozen Talker: every text keeps its place, an empty one is silence."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from muomni.evaluation.spoken_eval import SpokenAnswers
from muomni.frontends.text_normalizer import LETTERS, normalize_text


class Codec(nn.Module):
    def decode(self, codes):
        return codes.float()


class Voice:
    def in_words(self, text):
        return normalize_text(text, LETTERS)

    def say(self, texts, voices):
        return [torch.full((len(text), 1), 2) for text in texts], [len(text) > 3 for text in texts]

    def predicted_frames(self, texts, voices):
        return [2.0] * len(texts)


def spec(hop):
    return SimpleNamespace(metadata=lambda: {"hop": hop}, sample_rate=16000)


class Judge:
    def on(self, device):
        return lambda sounds: ["x" * len(sound) for sound in sounds]


def test_texts_keep_their_places_and_an_empty_one_is_silence(caplog):
    loads = []
    talker = SimpleNamespace(
        metadata={"stage": "talker", "run": {}, "codec_mel": {"hop": 160}}, folder="checkpoints/talker",
        load=lambda: loads.append(1) or SimpleNamespace(modules={"talker": nn.Identity(), "codec": Codec()}),
    )  # fmt: skip
    options = {
        "voice": lambda talker, codec: Voice(),
        "vocoder": lambda mel: mel.flatten(),
        "judge": Judge(),
    }
    spoken = SpokenAnswers(talker, mel=spec(160), **options)
    with pytest.raises(ValueError, match="checkpoints/talker: codec_mel differs.*'hop': 160.*'hop': 1280"):
        SpokenAnswers(talker, mel=spec(1280), **options)
    assert not loads, "nothing is loaded before it is needed"
    device = torch.device("cpu")
    made = spoken.transcribe(["abc", " ", "z"], ["7 - 2 = 5", "b", "c"], device)
    assert made.transcripts == ["xxx", "", "x"]
    assert made.truth == ["seven minus two is five", "b", "c"]
    assert made.waveforms[1] is None
    assert [len(made.waveforms[row]) for row in (0, 2)] == [3, 1]
    silent = spoken.transcribe([""], ["a"], device)
    assert (silent.transcripts, silent.truth, silent.waveforms) == ([""], ["a"], [None])
    assert silent.rates() == {"cer": 100.0, "wer": 100.0, "repeated": 0.0}
    made = spoken.transcribe(["5", "...", "日本 a"], ["x x", "b", "a"], device)
    assert made.transcripts == ["xxxx", "", "x"]  # four, nothing to speak, a: as inference says them
    assert made.waveforms[1] is None
    rates = made.rates()
    assert (rates["truncated"], rates["duration_ratio"]) == (50.0, (4 / 2 + 1 / 2) / 2)  # of the two that sound
    assert rates["runaway"] == rates["repeated"] == 0.0
    made.transcripts[2] = "a a"
    assert made.rates()["repeated"] == pytest.approx(100 / 3)
    assert "1 of 3 answers hold characters that cannot be spoken; the first: '日本'" in caplog.text
    assert loads == [1]
    assert spoken.independent_rates(made) == {}
    made.truth = ["a", "b", "c"]
    spoken.independent = SimpleNamespace(
        transcribe=lambda sounds: ["A."] * len(sounds),
        compared=lambda texts, truth: ([t[:1].lower() for t in texts], truth),
    )
    rates = spoken.independent_rates(made)  # the second makes no sound: it says nothing
    assert rates["cer"] == rates["wer"] == pytest.approx(200 / 3) and rates["cer_median"] == 100.0
    shown = spoken.examples("test", made, most=3)
    assert [(example["id"], example["answer"]) for example in shown] == [("tts-0", "xxxx"), ("tts-2", "a a")]
    assert [example["id"] for example in spoken.examples("test", made, most=2)] == ["tts-0"]
