"""The codec of waveforms as a stage: it learns, what is measured, and the Talker that speaks through its export."""

from functools import partial

import pytest
import torch

from callbacks.symptoms import LostCodebooks
from muomni.checkpoints.export import load_export, save_export
from muomni.evaluation.waveform_codec import WaveformCodecEvaluator
from muomni.frontends.mel import LogMel
from muomni.models import flops
from muomni.models.discriminators import Discriminators
from muomni.models.fourier_codec import FourierCodec
from muomni.optim.optimizers import adamw
from muomni.stages.training_options import TrainingOptions
from muomni.stages.waveform_codec import WaveformCodecStage
from tests.measure import measure
from tests.unit.stages.test_vocoder_stage import SPEC, Ear, batch

WEIGHTS = {"mel": 1.0, "spectral": 1.0, "commitment": 0.25, "generator": 0.05, "feature": 0.1, "discriminator": 1.0}


def build(*, judge=None, adversarial_from=1.0, **options):
    torch.manual_seed(0)
    model = FourierCodec(**({
        "sample_rate": 16000, "hop": 640, "stride": 4, "overlap": 4, "quantizer": "rvq", "dim": 8, "num_codebooks": 2,
        "codebook_size": 16, "num_layers": 1, "frame_layers": 1, "width": 32, "kernel": 3, "ff_dim": 32, "decay": 0.9,
        "dropout": 0.0, "idle": 0.1,
    } | options))  # fmt: skip
    stage = WaveformCodecStage(
        model=model,
        discriminators=Discriminators(periods=(2,), n_ffts=(128,), period_channels=(4, 4), spectrogram_channels=(4, 4)),
        log_mel=LogMel(SPEC), evaluator=partial(WaveformCodecEvaluator, judge=judge), n_ffts=(128, 512),
        adversarial_from=adversarial_from, max_steps=4, discriminator_rate=1.0, mel=SPEC.metadata(),
        training=TrainingOptions(
            optimizer=lambda groups: adamw(groups, lr=3e-3, betas=(0.8, 0.98)),
            schedule=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
            weight_decay=0.0, loss_weights=dict(WEIGHTS), compile_model=False,
        ),
    )  # fmt: skip
    stage.adversarial_start = 0 if adversarial_from == 0 else 10**6
    return stage


@pytest.mark.parametrize("quantizer", ["rvq", "fsq"])
def test_it_learns(quantizer):
    stage = build(quantizer=quantizer).train()
    stage.check_loss_weights()
    optimizer, clip, totals = stage.configure_optimizers()["optimizer"], batch(frames=24), []
    for _ in range(25):
        losses = stage.step(clip)
        total = stage.total_loss(losses)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.8 * totals[0]
    assert set(losses) == {"mel", "spectral"} | ({"commitment"} if quantizer == "rvq" else set())
    stage.losses = {name: loss.detach() for name, loss in losses.items()}
    doctor = LostCodebooks(losses={"codec": ["mel", "spectral", "commitment"]}, times=1, patience=0)
    assert doctor.finding(stage, clip) is None, "finite scalars have no commitment to miss"


def test_discriminators_join_in_where_they_are_wanted():
    losses = build(adversarial_from=0.0).train().step(batch(frames=24))
    assert set(losses) == set(WEIGHTS)
    assert "generator" not in build(adversarial_from=0.0).eval().step(batch(frames=24))


def test_what_is_measured_and_shown():
    stage = build(judge=Ear()).eval()
    metrics = measure(stage, batch())
    assert {"mel_l1", "codes_used", "codes_used_mean", "stoi_resynthesis", "clips"} <= set(metrics)
    assert (
        metrics["cer_recorded"] == metrics["cer_resynthesis"] == metrics["cer_gap"] == 0.0 and metrics["clips"] == 2.0
    )
    assert [sample["kind"] for sample in stage.evaluator.examples] == ["recorded", "codec"] * 2
    assert {view.name for view in stage.evaluator.views(batch())} == {"code use", "spectrogram", "rebuilt"}
    without = measure(build().eval(), batch())
    assert without["stoi_resynthesis"] == metrics["stoi_resynthesis"] and "cer_resynthesis" not in without


def test_a_codec_that_loses_nothing_is_at_no_distance(monkeypatch):
    stage = build().eval()
    forward = stage.model.forward

    def perfect(waveform, lengths=None):
        output = forward(waveform, lengths)
        output.waveform = waveform
        return output

    monkeypatch.setattr(stage.model, "forward", perfect)
    metrics = measure(stage, batch())
    assert metrics["mel_l1"] < 1e-5 and metrics["stoi_resynthesis"] == pytest.approx(1.0, abs=1e-3)


def test_the_cost_is_that_of_its_products():
    """By hand: 2 clips of 24 mel frames are 12 frames of codes and 48 transforms."""
    cost = flops.fourier_codec(build().model, 2, 24 * 160)
    per_code = 1284 * 32 + 32 * 8 + 8 * 32 + 32 * 4 * 32 + 2 * (3 * 32 + 2 * 32 * 32)
    per_transform = 32 * 32 + 32 * 642 + 3 * 32 + 2 * 32 * 32
    assert cost.forward == 2 * (12 * (per_code + 2 * 8 * 16) + 48 * per_transform)


def test_hand_over(tmp_path):
    stage = build()
    assert stage.export_metadata() == {"stage": "codec", "codec_audio": {"sample_rate": 16000, "hop": 640}}
    folder = save_export(tmp_path / "codec", stage.export_modules(), metadata=stage.export_metadata(), files={})
    codes = torch.randint(16, (1, 3, 2))
    assert torch.equal(load_export(folder, ["codec"]).modules["codec"].decode(codes), stage.model.eval().decode(codes))
    assert "codec.decay=null" in stage.cannot_average() and build(quantizer="fsq").cannot_average() is None


def test_another_sample_rate_is_refused():
    with pytest.raises(ValueError, match="codec.sample_rate=24000: that of the data's spectrogram, 16000"):
        build(sample_rate=24000)
