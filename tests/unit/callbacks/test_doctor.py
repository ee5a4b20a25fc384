"""Each alarm on a real small stage with the fault planted, and none on the same stage without it."""

import copy
import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from lightning import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from callbacks.doctor import Doctor
from callbacks.spikes import Spikes, load_spike, save_spike
from callbacks.symptoms import DeadCodes, ScaleMismatch, StuckAtChance, StuckOnBlank
from muomni.batch import TextBatch
from muomni.nn.masks import SegmentMask
from muomni.stages.codec import CodecStage
from tests.conftest import ROOT
from tests.unit.stages import test_omni_sft_stage as omni
from tests.unit.stages import test_speech_stages as speech
from tests.unit.stages import test_vision_stage as vision


class Repeat(LightningDataModule):
    """The same batch again and again, a fresh copy each time."""

    def __init__(self, batch, steps):
        super().__init__()
        self.batch, self.steps = batch, steps

    def train_dataloader(self):
        return DataLoader([copy.deepcopy(self.batch) for _ in range(self.steps)], batch_size=None)


def alarms(stage, batch, symptom, caplog, tmp_path, steps=60, extra=()):
    """Messages of the doctor in a short training with one symptom, or with several by name."""
    symptoms = symptom if isinstance(symptom, dict) else {"it": symptom}
    doctor = Doctor(every_n_steps=5, symptoms=symptoms, spikes=None)
    trainer = Trainer(
        max_epochs=1, callbacks=[doctor, *extra], default_root_dir=str(tmp_path), accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, limit_val_batches=0,
    )  # fmt: skip
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="callbacks.doctor"):
        trainer.fit(stage, datamodule=Repeat(batch, steps))
    messages = [record.getMessage() for record in caplog.records if record.name == "callbacks.doctor"]
    assert doctor.alarms == len(messages)
    return messages


def test_ctc_stuck_on_blank(caplog, tmp_path):
    def stage(bias):
        torch.manual_seed(0)
        stage = speech.audio_stage()
        stage.model.head.bias.data[0] = bias
        return stage

    symptom = lambda: StuckOnBlank(share=0.999, patience=40)  # noqa: E731
    [alarm] = alarms(stage(200.0), speech.batch(), symptom(), caplog, tmp_path)
    assert alarm.startswith("doctor: step 40: CTC is stuck on blank: 100.0 % of the frames say nothing. Lower optim.lr")
    assert alarms(stage(0.0), speech.batch(), symptom(), caplog, tmp_path) == []


def test_contrastive_loss_at_chance(caplog, tmp_path):
    symptom = lambda: StuckAtChance(losses={"vision": ["global", "late"]}, margin=0.02, patience=40)  # noqa: E731
    blind = vision.make()
    blind.text_tower.embedding.weight.requires_grad_(False).zero_()  # reads no word: all captions look alike
    [alarm] = alarms(blind, vision.batch(), symptom(), caplog, tmp_path)
    assert "contrastive loss global, late is stuck at ln(batch) = 1.39: all pairs look alike. Look whether" in alarm
    assert alarms(vision.make(), vision.batch(), symptom(), caplog, tmp_path) == []


def test_dead_codes(caplog, tmp_path):
    def stage(dead):
        torch.manual_seed(0)
        model = speech.build_codec(codebook_size=8, **({"decay": None} if dead else {}))
        if dead:
            model.quantizer.codebooks.data[1, 1:] = 1e4  # too far to be the nearest of anything
        return CodecStage(model=model, evaluator=lambda model, **_: None, **speech.how(commitment=0.25))

    symptom = lambda: DeadCodes(used=0.25, patience=40)  # noqa: E731
    [alarm] = alarms(stage(True), speech.batch(), symptom(), caplog, tmp_path)
    assert "dead codes: codebook 1 uses 1 of its 8 entries. Let codebooks follow averages" in alarm
    assert alarms(stage(False), speech.batch(), symptom(), caplog, tmp_path) == []


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_media_louder_than_text(caplog, tmp_path, kind):
    def stage(loud):
        stage = omni.make()
        if loud:
            getattr(stage.model, f"{kind}_projector").layers.weight.data.mul_(300)
        return stage

    symptom = lambda: ScaleMismatch(loudest=10, softest=0.1, patience=20)  # noqa: E731
    [alarm, *_] = alarms(stage(True), omni.batch(), symptom(), caplog, tmp_path, steps=30)
    assert f"{kind} tokens have" in alarm and f"set backbone.projector.{kind}.scale" in alarm
    assert alarms(stage(False), omni.batch(), symptom(), caplog, tmp_path, steps=30) == []


def spiking(toy, tmp_path, at=(), keep=5, order=None):
    """The toy stage, whose loss is ten thousand times as large for some batches; what the doctor says."""
    doctor = Doctor(every_n_steps=100, symptoms={}, spikes=Spikes(window=50, deviations=10, keep=keep))
    stage, data, trainer = toy(doctor, batches=60)
    step = stage.step
    stage.step = lambda batch: {
        "square": step(batch)["square"] * (1e4 if int(batch.sample_ids[0].split("-")[0]) in at else 1.0)
    }
    stage.optimizer_factory = lambda groups: torch.optim.SGD(groups, lr=1e-12)
    data.batch_sampler = order
    trainer.fit(stage, datamodule=data)
    return stage, doctor


def test_a_spike_is_named_and_its_batch_saved(toy, tmp_path, caplog, monkeypatch):
    from muomni import batch as batches
    from tests.unit.callbacks.conftest import ToyBatch

    monkeypatch.setattr(batches, "ToyBatch", ToyBatch, raising=False)
    with caplog.at_level(logging.WARNING, logger="callbacks.doctor"):
        stage, doctor = spiking(toy, tmp_path, at={45})
    assert doctor.alarms == 1
    [message] = [record.getMessage() for record in caplog.records if record.name == "callbacks.doctor"]
    path = tmp_path / "spikes" / "step-000045.pt"
    assert message.startswith("doctor: step 45: loss ") and str(path) in message
    batch, about = load_spike(path)
    assert batch.sample_ids == ["45-a", "45-b"]
    assert (about["stage"], about["step"]) == ("toy", 45)
    replayed = float(stage.model(batch.ids).square().mean()) * 1e4
    assert about["losses"]["loss"] == pytest.approx(replayed, rel=1e-3), "the batch gives the loss that was noted"


def test_no_spike_in_a_healthy_run(toy, tmp_path):
    assert spiking(toy, tmp_path)[1].alarms == 0
    assert not (tmp_path / "spikes").exists()


def judged(spikes, losses, toy_batch, folder):
    """What is said of losses that come one after the other; of the last one nothing is said yet."""
    stage = lambda loss: SimpleNamespace(name="toy", losses={"loss": torch.tensor(loss)}, device=torch.device("cpu"))  # noqa: E731
    return [spikes.look(stage(loss), toy_batch, step=step, rank=0, folder=folder) for step, loss in enumerate(losses)]


def test_clips_that_are_known_by_heart_have_no_spikes(toy, tmp_path):
    """Losses near zero, of which one is thirty times as large: still far below the first ones. After a resume too."""
    from tests.unit.callbacks.conftest import ToyBatch

    batch = ToyBatch(torch.zeros(1, dtype=torch.long), ["a"])
    at_first, known = [3.0] * 40, [0.02, 0.03, 0.04] * 40
    spikes = Spikes(window=50, deviations=10, keep=5)
    assert not any(judged(spikes, [*at_first, *known, 0.9, 0.03], batch, tmp_path))
    doctor = Doctor(every_n_steps=100, symptoms={}, spikes=spikes)
    resumed = Doctor(every_n_steps=100, symptoms={}, spikes=Spikes(window=50, deviations=10, keep=5))
    resumed.load_state_dict(doctor.state_dict())
    assert not any(judged(resumed.spikes, [*known, 0.9, 0.03], batch, tmp_path))
    [said] = filter(None, judged(resumed.spikes, [*known, 2.9, 0.03], batch, tmp_path))
    assert "loss 2.9 where 0.03 is usual" in said


def test_the_shortest_clips_of_an_epoch_are_no_spike(tmp_path, monkeypatch):
    from muomni import batch as batches
    from tests.unit.callbacks.conftest import ToyBatch

    monkeypatch.setattr(batches, "ToyBatch", ToyBatch, raising=False)
    batch = ToyBatch(torch.zeros(1, dtype=torch.long), ["a"])
    epoch = [3.0 + 0.01 * (step % 5) for step in range(50)]
    at_first = [20.0 / (step + 1) + 3.0 for step in range(50)]
    epochs = [*at_first, *epoch, 6.3, *epoch, 6.4, *epoch, 4.8, *epoch]
    assert not any(judged(Spikes(window=100, deviations=10, keep=5), epochs, batch, tmp_path))
    assert any(judged(Spikes(window=100, deviations=10, keep=5), [*epochs, 9.0, 3.0], batch, tmp_path))


def test_other_samples_after_the_opening_are_no_spike(toy, tmp_path):
    """A curriculum ends at batch 45: from then on losses are larger. What is usual is learnt again."""

    class Order:
        steps = 0

        @property
        def curriculum_ends(self):
            self.steps += 1
            return self.steps == 46

    assert spiking(toy, tmp_path, at=range(45, 60))[1].alarms == 1
    assert spiking(toy, tmp_path, at=range(45, 60), order=Order())[1].alarms == 0


def test_only_some_spikes_are_saved(toy, tmp_path):
    _, doctor = spiking(toy, tmp_path, at={40, 45, 50}, keep=2)
    assert doctor.alarms == 3
    assert len(list((tmp_path / "spikes").iterdir())) == 2


def test_a_loss_that_stays_high_is_one_spike(toy, tmp_path):
    _, doctor = spiking(toy, tmp_path, at={40, 41, 42, 44, 47})
    assert doctor.alarms == 1
    assert [path.name for path in (tmp_path / "spikes").iterdir()] == ["step-000040.pt"]


def test_a_loss_that_is_nan_is_a_spike_from_the_first_step_on(toy, tmp_path):
    doctor = Doctor(every_n_steps=100, symptoms={}, spikes=Spikes(window=50, deviations=10, keep=5))
    stage, data, trainer = toy(doctor, poison={1})
    trainer.fit(stage, datamodule=data)
    assert (tmp_path / "spikes" / "step-000001.pt").is_file()


def test_an_alarm_comes_again_only_when_it_has_lasted_as_long_again(caplog, tmp_path):
    torch.manual_seed(0)
    stage = speech.audio_stage()
    stage.model.head.bias.data[0] = 200.0
    found = alarms(stage, speech.batch(), StuckOnBlank(share=0.999, patience=20), caplog, tmp_path, steps=70)
    assert [message.split(":")[1] for message in found] == [" step 20", " step 40", " step 60"]


@pytest.mark.parametrize(("name", "mistake"), [("none.pt", "no such file"), ("text.pt", "not a saved spike")])
def test_what_is_no_spike(tmp_path, name, mistake):
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises((ValueError, FileNotFoundError), match=mistake):
        load_spike(tmp_path / name)


def test_a_spike_of_packed_rows_keeps_their_mask(tmp_path):
    ids = torch.zeros(1, 4, dtype=torch.long)
    mask = SegmentMask.with_runs(torch.tensor([[1, 1, 2, 0]]))
    batch = TextBatch(
        ids=ids, targets=ids, lengths=torch.tensor([3]), document_types=["k"] * 2, floors=torch.zeros(2),
        sample_ids=["a", "b"], mask=mask,
    )  # fmt: skip
    save_spike(tmp_path / "s.pt", batch, stage="thinker", step=7, losses={"loss": 9.5}, usual=1.0)
    found = load_spike(tmp_path / "s.pt")[0].mask
    assert torch.equal(found.segment_ids, mask.segment_ids) and torch.equal(found.runs.queries, mask.runs.queries)


@pytest.mark.slow
def test_a_saved_spike_is_shown(tmp_path):
    save_spike(tmp_path / "s.pt", speech.batch(), stage="audio", step=7, losses={"loss": 9.5}, usual=1.0)
    done = subprocess.run(
        [sys.executable, "-m", "callbacks.spikes", str(tmp_path / "s.pt")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "stage=audio step 7: usual loss 1" in done.stdout and "abc  'abc'" in done.stdout


def test_a_saved_batch_keeps_its_references(tmp_path):
    clips = speech.two_speakers([1, 0, 3, 2])
    save_spike(tmp_path / "step.pt", clips, stage="talker", step=3, losses={"codebook_0": 9.0}, usual=1.0)
    again, _ = load_spike(tmp_path / "step.pt")
    assert torch.equal(again.references.mel, clips.references.mel) and again.references.audio == clips.references.audio
