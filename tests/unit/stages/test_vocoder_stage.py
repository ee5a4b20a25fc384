"""The vocoder's stage: who learns from which loss, when, and what is measured beside Griffin-Lim."""

from functools import partial
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from callbacks.finite_guard import FiniteGuard
from callbacks.gradient_guard import GradientGuard
from callbacks.random_state import RandomState
from callbacks.step_guard import StepGuard
from muomni.batch import WaveformBatch
from muomni.checkpoints.export import Export
from muomni.distributed import collectives
from muomni.evaluation.vocoder import VocoderEvaluator
from muomni.frontends.mel import LogMel, MelSpec
from muomni.frontends.text_normalizer import LETTERS, normalize_text
from muomni.inference.tts.griffin_lim import GriffinLim
from muomni.inference.tts.mel_correction import MelCorrection
from muomni.losses.adversarial import discriminator_loss, feature_loss, generator_loss
from muomni.models.codec import Codec
from muomni.models.discriminators import Discriminators
from muomni.models.vocoder import Vocoder
from muomni.optim.optimizers import adamw, soap
from muomni.stages.training_options import TrainingOptions
from muomni.stages.vocoder import VocoderStage
from tests.measure import measure

SPEC = MelSpec(sample_rate=16000, hop=160, n_fft=512, win=400, bins=20, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)
SOUNDS = ("", "griffin_lim_")


def clips(count=2, frames=100, seed=0):
    """Buzzes of different pitch whose level moves."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(160 * frames) / 16000
    pitch = 100 + 100 * torch.rand(count, 1, generator=generator)
    buzz = sum(torch.sin(2 * torch.pi * k * pitch * time) / k for k in range(1, 20))
    return (0.05 + 0.1 * torch.sin(8 * time).square()) * buzz


def batch(frames=100, seed=0, through_codec=(False, False)):
    waveform = clips(frames=frames, seed=seed)
    texts = ["one", "two"]
    return WaveformBatch(
        mel=LogMel(SPEC)(waveform), mel_lengths=torch.tensor([frames, frames]), waveform=waveform,
        through_codec=torch.tensor(through_codec), texts=texts, audio=texts, sample_ids=texts,
    )  # fmt: skip


def codec_export(mel=None):
    torch.manual_seed(1)
    codec = Codec(
        n_mels=20, stride=4, dim=8, num_codebooks=1, codebook_size=8, num_layers=1, width=16, kernel=3, ff_dim=16,
        decay=0.9, dropout=0.0, idle=0.0,
    )  # fmt: skip
    return Export({"codec": codec}, {"mel": mel or SPEC.metadata()}, Path("checkpoints/codec"))


def build(**options):
    torch.manual_seed(0)
    how = {
        "model": Vocoder(n_mels=20, hop=160, overlap=4, width=32, num_layers=1, kernel=3, ff_dim=32),
        "discriminators": Discriminators(
            periods=(2,), n_ffts=(128,), period_channels=(4, 4), spectrogram_channels=(4, 4)
        ),
        "correction": MelCorrection(SPEC), "corrections": 2, "corrections_in_training": 1,
        "evaluator": partial(
            VocoderEvaluator, griffin_lim=GriffinLim(SPEC, iterations=2), judge=options.pop("judge", None)
        ), "log_mel": LogMel(SPEC), "codec": None,
        "n_ffts": (128, 512), "adversarial_from": 0.0, "max_steps": 4, "discriminator_rate": 1.0, "mel": SPEC.metadata(),
        "training": TrainingOptions(
            optimizer=lambda groups: adamw(groups, lr=3e-3, betas=(0.8, 0.98)),
            schedule=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
            weight_decay=0.0, loss_weights={}, compile_model=False,
        ),
    }  # fmt: skip
    return VocoderStage(**(how | options))


def gradients(loss, module):
    return [
        torch.zeros_like(p) if g is None else g
        for p, g in zip(
            module.parameters(),
            torch.autograd.grad(loss, list(module.parameters()), retain_graph=True, allow_unused=True),
            strict=True,
        )
    ]


def test_each_loss_reaches_whom_it_is_for():
    stage = build().train()
    losses = stage.step(batch())
    assert set(losses) == {"mel", "spectral", "generator", "feature", "discriminator"}
    for name, loss in losses.items():
        own, other = (stage.discriminators, stage.model)[:: 1 if name == "discriminator" else -1]
        assert any(g.abs().sum() > 0 for g in gradients(loss, own)), name
        assert not any(g.any() for g in gradients(loss, other)), name


def test_gradients_are_those_of_taking_turns():
    """What generator and discriminators would get from losses of their own, one after the other."""
    stage, clip = build().train(), batch()
    losses = stage.step(clip)
    made = stage.synthesize(clip.mel, corrections=1)
    real, fake = stage.discriminators(clip.waveform), stage.discriminators(made.detach())
    turn = gradients(discriminator_loss(real, fake), stage.discriminators)
    for ours, theirs in zip(gradients(losses["discriminator"], stage.discriminators), turn, strict=True):
        torch.testing.assert_close(ours, theirs)
    judged = stage.discriminators(made)
    turn = gradients(generator_loss(judged) + feature_loss(real, judged), stage.model)
    ours = gradients(losses["generator"] + losses["feature"], stage.model)
    for a, b in zip(ours, turn, strict=True):
        torch.testing.assert_close(a, b)


def test_discriminators_wait_for_their_time_and_stay_out_of_validation():
    stage = build(adversarial_from=0.5, max_steps=4).train()
    losses = stage.step(batch())  # step 0 of 4
    assert set(losses) == {"mel", "spectral"}
    assert set(build().eval().step(batch())) == {"mel", "spectral"}


def test_waiting_discriminators_have_no_moments_and_their_first_step_is_adams_first():
    """Two steps without them, then their state is that of one step: not of three, two of them with gradients of zeros."""
    stage, clip = build(adversarial_from=0.5, max_steps=4).train(), batch(frames=20)
    optimizer = stage.configure_optimizers()["optimizer"]
    for _ in range(2):
        optimizer.zero_grad()
        stage.total_loss(stage.step(clip)).backward()
        assert all(p.grad is None for p in stage.discriminators.parameters())
        optimizer.step()
    assert not any(optimizer.state.get(p) for p in stage.discriminators.parameters())
    stage.adversarial_start = 0
    assert stage.used_modules(clip) == {"discriminators"}
    before = [p.detach().clone() for p in stage.discriminators.parameters()]
    optimizer.zero_grad()
    stage.total_loss(stage.step(clip)).backward()
    optimizer.step()
    for old, new in zip(before, stage.discriminators.parameters(), strict=True):
        assert optimizer.state[new]["step"] == 1
        moved = (new - old).abs()[new.grad.abs() > 1e-5]
        torch.testing.assert_close(moved, torch.full_like(moved, 3e-3), rtol=1e-2, atol=1e-5)


def test_each_side_is_clipped_by_its_own_norm():
    stage = build()
    for side, size in ((stage.model, 100.0), (stage.discriminators, 0.001)):
        for parameter in side.parameters():
            parameter.grad = torch.full_like(parameter, size)
    stage.gradient_norm = torch.tensor(1e6)  # as the guard measures it, of all
    small = [p.grad.clone() for p in stage.discriminators.parameters()]
    stage.configure_gradient_clipping(stage.configure_optimizers()["optimizer"], 1.0, "norm")
    norms = [
        torch.cat([p.grad.flatten() for p in side.parameters()]).norm() for side in (stage.model, stage.discriminators)
    ]
    assert norms[0] == pytest.approx(1.0, abs=1e-4) and stage.gradient_norm is None
    for parameter, before in zip(stage.discriminators.parameters(), small, strict=True):
        assert torch.equal(parameter.grad, before)


def test_it_learns_spectra():
    stage = build(adversarial_from=1.0).train()
    stage.adversarial_start = 10**6
    optimizer = stage.configure_optimizers()["optimizer"]
    clip, totals = batch(frames=20), []
    for _ in range(25):
        total = stage.total_loss(stage.step(clip))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.8 * totals[0]


def test_asked_pieces_go_through_the_frozen_codec():
    stage = build(codec=codec_export()).train()
    assert not stage.codec.training and not any(p.requires_grad for p in stage.codec.parameters())
    clip = batch(through_codec=(False, True))
    seen = stage._input_mel(clip)
    torch.testing.assert_close(seen[0], clip.mel[0])
    torch.testing.assert_close(seen[1], stage.codec(clip.mel, clip.mel_lengths).mel[1])
    assert not torch.allclose(seen[1], clip.mel[1])


def test_the_codec_asks_no_other_rank(monkeypatch):
    """Which may have no piece that goes through it, and would never answer."""
    stage = build(codec=codec_export()).train()
    monkeypatch.setattr(collectives, "num_processes", lambda: 2)
    monkeypatch.setattr(collectives.dist, "all_reduce", lambda *_: pytest.fail("waits for the other rank"))
    with collectives.synced_step():
        stage._input_mel(batch(through_codec=(False, True)))


def test_a_codec_of_another_spectrogram_is_refused():
    with pytest.raises(ValueError, match="checkpoints/codec: mel differs"):
        build(codec=codec_export(mel=SPEC.metadata() | {"hop": 80}))


class Ear:
    """A judge that hears everything right."""

    def on(self, device):
        return self

    def in_words(self, text):
        return normalize_text(text, LETTERS).text

    def words(self, waveform, text):
        return [(text, 0.0, 0.1)]

    def __call__(self, waveforms):
        return ["one", "two"][: len(waveforms)]


def test_what_is_measured_and_shown():
    stage = build(codec=codec_export(), judge=Ear()).eval()
    metrics = measure(stage, batch())
    names = ("log_mel_distance", "stoi", "real_time_factor", "cer")
    expected = {f"{maker}{source}{name}" for maker in SOUNDS for source in ("", "codec_") for name in names}
    names = {name for name in expected if name.endswith("cer")} | {"cer_recorded"}
    spread = {f"{name}_{end}" for name in names for end in ("low", "high", "mean", "median", "capped")}
    spread |= {name.replace("cer", "repeated") for name in names} | {"truncated", "runaway", "duration_ratio"}
    assert set(metrics) == expected | {"cer_recorded", "clips"} | spread
    assert metrics["duration_ratio"] == pytest.approx(1.0, abs=0.1)  # noise that sounds all along
    assert metrics["truncated"] == metrics["runaway"] == metrics["repeated"] == 0.0
    assert metrics["griffin_lim_stoi"] > 0.5 and metrics["real_time_factor"] > 0
    assert metrics["cer"] == metrics["cer_recorded"] == 0.0
    assert metrics["codec_log_mel_distance"] > metrics["log_mel_distance"]  # this codec knows nothing
    assert [sample["kind"] for sample in stage.evaluator.examples] == ["recorded", "griffin_lim", "vocoder"] * 2
    assert all(sample["waveform"].shape == (16000,) for sample in stage.evaluator.examples)


def test_a_perfect_vocoder_is_at_no_distance():
    """Whatever its level is: the recording itself, at half of it."""
    recording = batch()
    by_mel = {
        tuple(mel.flatten()[:50].tolist()): sound for mel, sound in zip(recording.mel, recording.waveform, strict=True)
    }
    stage = build(corrections=0).eval()
    stage.evaluator.synthesize = lambda mel: 0.5 * by_mel[tuple(mel[0].flatten()[:50].tolist())][None]
    metrics = measure(stage, recording)
    assert metrics["log_mel_distance"] < 1e-4 < metrics["griffin_lim_log_mel_distance"]
    assert metrics["stoi"] == pytest.approx(1.0, abs=1e-3)


def test_hand_over():
    stage = build(corrections=7)
    assert set(stage.export_modules()) == {"vocoder"}
    assert stage.export_metadata() == {"stage": "vocoder", "codec_mel": SPEC.metadata(), "corrections": 7}


def fit(path, max_steps, *, resume=None, clips=None, **options):
    stage = build(adversarial_from=0.5, max_steps=4, **options)
    data = DataLoader(clips or [batch(frames=20)] * 4, batch_size=None)
    trainer = Trainer(
        max_steps=max_steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=str(path), gradient_clip_val=1.0,
        callbacks=[RandomState(), FiniteGuard(max_loss=1e6, patience=9), GradientGuard(max_norm=100.0, patience=9)],
    )  # fmt: skip
    trainer.fit(stage, data, ckpt_path=resume)
    return stage, trainer


def by_soap():
    optimizer = partial(soap, lr=3e-3, betas=(0.8, 0.98), shampoo_beta=0.95, frequency=2, max_side=64)
    return TrainingOptions(
        optimizer=optimizer, schedule=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
        weight_decay=0.0, loss_weights={}, compile_model=False,
    )  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"training": by_soap()}], ids=["adamw", "soap"])
def test_a_step_counts_once_and_a_resumed_run_ends_with_the_same_weights(options, tmp_path):
    """From before the discriminators join in, from there, and from after it. SOAP's first step of a matrix makes only bases."""
    whole, trainer = fit(tmp_path, 4, **options)
    assert trainer.global_step == 4
    for steps in (1, 2, 3):
        _, stopped = fit(tmp_path, steps, **options)
        stopped.save_checkpoint(tmp_path / "stopped.ckpt")
        resumed, _ = fit(tmp_path, 4, resume=tmp_path / "stopped.ckpt", **options)
        for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
            assert torch.equal(a, b), (steps, name)
    untouched = build().discriminators.state_dict()
    assert not all(torch.equal(value, untouched[name]) for name, value in whole.discriminators.state_dict().items())


def test_moments_that_an_older_version_gave_waiting_discriminators_are_forgotten(tmp_path):
    _, trainer = fit(tmp_path, 1)
    checkpoint = trainer._checkpoint_connector.dump_checkpoint()
    (optimizer,) = checkpoint["optimizer_states"]
    waiting, learning = set(), set()
    for group in optimizer["param_groups"]:
        (waiting if group["name"].startswith("discriminators/") else learning).update(group["params"])
    for number in waiting:
        optimizer["state"][number] = {
            "step": torch.tensor(1.0),
            "exp_avg": torch.zeros(1),
            "exp_avg_sq": torch.zeros(1),
        }
    build(adversarial_from=0.5, max_steps=4).on_load_checkpoint(checkpoint)
    assert set(optimizer["state"]) == learning


@pytest.mark.parametrize("broken", [float("nan"), 1e30])
def test_a_broken_clip_moves_neither_generator_nor_discriminators(broken, tmp_path):
    clip = batch(frames=20)
    clip.waveform[0, 5] = broken
    trained, trainer = fit(tmp_path, 1, clips=[clip])
    assert sum(guard.skipped for guard in trainer.callbacks if isinstance(guard, StepGuard)) >= 1
    for (name, before), after in zip(build().state_dict().items(), trained.state_dict().values(), strict=True):
        assert torch.equal(before, after), name
