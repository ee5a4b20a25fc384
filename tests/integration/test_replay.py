"""task=replay: the losses of a saved batch, computed again."""

import pytest
import torch

from benchmarks.stages import build_stage, compose_config, draw
from callbacks.spikes import save_spike
from tests.conftest import run_script
from tests.unit.stages import test_speech_stages as speech
from train import replay, validate


def test_it_gives_the_losses_of_the_batch(tmp_path):
    torch.manual_seed(0)
    stage, batch = speech.audio_stage().eval(), speech.batch()
    with torch.no_grad():
        expected = float(stage.step(batch)["ctc"])
    save_spike(tmp_path / "s.pt", batch, stage="audio", step=7, losses={"loss": 9.5}, usual=1.0)
    assert replay(stage, str(tmp_path / "s.pt")) == {"audio/replay/ctc": expected, "audio/replay/loss": expected}


def test_a_batch_of_another_stage_is_refused(tmp_path):
    stage = speech.audio_stage()
    save_spike(tmp_path / "s.pt", speech.batch(), stage="codec", step=7, losses={"loss": 9.5}, usual=1.0)
    with pytest.raises(ValueError, match="is a batch of stage=codec, not of stage=audio"):
        replay(stage, str(tmp_path / "s.pt"))


@pytest.mark.parametrize("words", [["task=replay"], ["spike=x.pt"]])
def test_task_and_file_go_together(words):
    with pytest.raises(ValueError, match="go together"):
        validate(compose_config(*words))


@pytest.mark.slow
def test_from_the_command_line(line, tmp_path):
    stage, datamodule = build_stage(compose_config("stage=codec", "budget=ci", "data.preset=ci", f"paths.root={line}"))
    save_spike(tmp_path / "s.pt", next(draw(datamodule)), stage=stage.name, step=7, losses={"loss": 9.5}, usual=1.0)
    done = run_script(
        "train.py",
        "stage=codec",
        "budget=ci",
        "data.preset=ci",
        f"paths.root={line}",
        "task=replay",
        f"spike={tmp_path}/s.pt",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "stage=codec step 7: usual loss 1" in done.stderr
