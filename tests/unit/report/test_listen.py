"""The page to listen to: every version with its sound, and the judges' errors marked."""

import re

import numpy as np
import pytest
import soundfile
import torch

from muomni.report.__main__ import main
from muomni.report.listen import marked, mel_png, sentences_of, waveform_svg, words_line
from muomni.report.runs import read_folder

from .conftest import make_run


@pytest.fixture
def run(tmp_path):
    """Two sentences in three versions, of which the recorded one is loud at its end."""
    samples = [
        {
            "split": "test", "id": f"s{i}", "kind": kind, "truth": truth, "answer": truth.replace("red", "bed"), "cer": 12.5,
            "audio": f"{i}-{kind}.wav", "words": [["the", 0.0, 0.1], ["<red>", 0.1, 0.3]], "whisper": "The!",
            "whisper_words": "the", "whisper_truth": truth, "whisper_cer": 62.5,
        }
        for i, truth in enumerate(("the red", "the blue one")) for kind in ("spoken", "recorded", "codec")
    ]  # fmt: skip
    folder = make_run(tmp_path / "runs", "talker", "1", {"test/cer": 1.0}, samples=samples)
    for sample in samples:
        sound = 0.01 * np.sin(np.arange(16000) * 0.3) * (1 + 50 * (np.arange(16000) > 12000))
        soundfile.write(folder / "samples" / sample["audio"], sound, 16000)
    return folder


def test_the_versions_are_side_by_side_with_sound_and_marks(run, tmp_path):
    main(["listen", str(run), f"out={tmp_path}"])
    page = (tmp_path / "listen.html").read_text()
    assert page.count("<audio controls src=") == page.count('aria-label="waveform"') == page.count("<img src=") == 6
    assert re.findall(r"<h4>([^<]*)</h4>", page)[:4] == [
        "recorded",
        "codec",
        "spoken",
        "shuffled: against “the blue one”",
    ]
    assert "the <ins>b</ins><del>r</del>ed" in page and "(CER 12.50 %)" in page
    assert "(CER 62.50 %): the<del> red</del>" in page
    assert "&lt;red&gt;" in page and "<red>" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "it loads nothing"


def test_the_report_card_links_to_it(run, tmp_path):
    main([f"root={tmp_path}", f"out={tmp_path / 'report'}"])
    assert "[listen.html](listen.html)" in (tmp_path / "report" / "report.md").read_text()
    assert (tmp_path / "report" / "listen.html").is_file()


def test_each_split_has_its_share(run):
    read = read_folder(run).read
    many = [row | {"id": f"{i}", "split": f"s{i % 2}"} for i in range(20) for row in read.samples[:1]]
    read.samples[:] = many
    chosen = sentences_of(read)
    assert [each["spoken"]["split"] for each in chosen] == ["s0"] * 3 + ["s1"] * 3


def test_what_cannot_be_shown_is_one_line(run, tmp_path):
    silent = make_run(tmp_path / "other", "thinker", "1", {"test/loss": 1.0})
    with pytest.raises(ValueError, match=r"thinker/1: no sounds in samples/: a test of stage=talker"):
        main(["listen", str(silent), f"out={tmp_path}"])
    with pytest.raises(ValueError, match="the folder of a run of stage=talker"):
        main(["listen"])
    (run / "samples" / "0-codec.wav").unlink()
    with pytest.raises(ValueError, match=r"0-codec.wav: the sound of a sample is missing"):
        main(["listen", str(run), f"out={tmp_path}"])


def test_marks():
    assert marked("cat", "cat") == "cat"
    assert marked("", "a<b") == "<del>a&lt;b</del>"
    assert marked("", "") == "<del>nothing</del>"


def test_pictures_of_sounds_of_any_length():
    for samples in (1, 50, 400, 16000):
        assert mel_png(torch.zeros(samples)).startswith(b"\x89PNG")
        assert "<polygon" in waveform_svg(torch.ones(samples))
    loud_end = torch.cat([torch.zeros(8000), torch.ones(8000)])
    points = [float(y) for _, y in re.findall(r"([\d.]+),([\d.]+)", waveform_svg(loud_end))]
    assert points[0] == 28.0 and points[299] == 0.0  # silence is in the middle, the loudest at the top


def test_words_are_at_their_times():
    line = words_line([["a", 0.5, 1.0]], seconds=2.0)
    assert "left:25.00%;width:25.00%" in line and ">a</span>" in line
    assert words_line([], seconds=1.0) == ""
