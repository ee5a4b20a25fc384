"""What only the measuring needs is there from the start, and loaded when it is used."""

import shutil

import pytest
import torch

from muomni.checkpoints import deferred
from muomni.evaluation.judge import Judge
from muomni.inference.asr.recognizer import Recognizer
from tests.device.stages import build


def test_omni_sft_trains_without_talker_codec_and_judge(tmp_path, monkeypatch, caplog):
    loads, load_export, from_export = [], deferred.load_export, Recognizer.from_export
    monkeypatch.setattr(deferred, "load_export", lambda folder: loads.append(folder.name) or load_export(folder))
    monkeypatch.setattr(
        Recognizer, "from_export", lambda folder, **how: loads.append("judge") or from_export(folder, **how)
    )
    stage, _, make = build(tmp_path, "omni_sft")
    stage.train()
    stage.total_loss(stage.step(make(True))).backward()
    stage.eval()
    stage.evaluator.reset("test")
    stage.evaluator.update(make(False))
    stage.evaluator.compute()
    assert loads == [], "nothing in this split is to be spoken"
    stage.evaluator.state.to_speak.append(("a red dot", "a red dot"))
    assert {"tts", "tts_cer", "tts_wer"} <= set(stage.evaluator.compute())
    assert loads == ["talker", "judge"]
    assert stage.export_metadata()["codec_mel"] and not {"talker", "codec"} & set(stage.export_modules())
    assert set(stage.bundled_modules()) == {"talker", "codec"}
    shutil.rmtree(stage.talker.folder)
    assert stage.bundled_modules() == {} and "the model is written without its voice" in caplog.text


def test_a_judge_that_is_not_there_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(FileNotFoundError, match="no export here"):
        Judge(tmp_path, load=lambda folder: pytest.fail("not yet"))


def test_a_judge_is_loaded_once_and_moved_to_where_it_listens(tmp_path, monkeypatch):
    monkeypatch.setattr("muomni.evaluation.judge.read_description", lambda folder: {})
    loads, moves = [], []

    class Ear:
        def to(self, device):
            moves.append(device.type)

    judge = Judge(tmp_path, load=lambda folder: loads.append(folder) or Ear())
    assert judge.on(torch.device("cpu")) is judge.on(torch.device("meta"))
    assert loads == [tmp_path] and moves == ["cpu", "meta"]
