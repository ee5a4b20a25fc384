import dataclasses

import pytest
import torch

from muomni.frontends.mel import LogMel, MelSpec, denormalise_log, mel_filters, normalise_log
from muomni.inference.tts.griffin_lim import GriffinLim

FAST = MelSpec(
    sample_rate=16000, hop=160, n_fft=1024, win=400, bins=128, f_min=20.0, f_max=8000.0, log=True, floor=1e-5
)
SLOW = dataclasses.replace(FAST, hop=1280, n_fft=4096, win=4096)


def voice(seconds: float) -> torch.Tensor:
    time = torch.arange(int(seconds * 16000)) / 16000
    envelope = 0.5 + 0.5 * torch.sin(2 * torch.pi * 0.7 * time)
    phase = 2 * torch.pi * (140 * time + 90 * time**2)  # a rising pitch
    return envelope * sum(torch.sin(k * phase) / k for k in range(1, 20)) * 0.2


@pytest.mark.parametrize("spec", [FAST, SLOW])
def test_no_filter_is_empty(spec):
    assert (mel_filters(spec).sum(0) > 0).all()


def test_an_empty_filter_is_refused():
    with pytest.raises(ValueError, match="filters are empty at n_fft=256"):
        LogMel(dataclasses.replace(FAST, n_fft=256, win=256))


@pytest.mark.parametrize(("samples", "frames"), [(16000, 100), (16159, 100), (16160, 101), (160, 1)])
def test_frames_are_floor_of_samples_by_hop(samples, frames):
    mel = LogMel(FAST)(voice(2.0)[:samples])
    assert mel.shape == (frames, 128)
    assert FAST.num_frames(samples) == frames


def test_a_batch_padded_by_zeros_equals_its_clips():
    clips = [voice(0.5), voice(0.9)[:14000]]
    batch = LogMel(FAST)(torch.nn.utils.rnn.pad_sequence(clips, batch_first=True))
    for row, clip in zip(batch, clips, strict=True):
        alone = LogMel(FAST)(clip)
        assert torch.allclose(row[: len(alone)], alone, atol=1e-4)


def test_a_full_scale_sine_reads_about_one_at_any_hop():
    sine = torch.sin(2 * torch.pi * 1000 * torch.arange(32000) / 16000)
    for spec in (FAST, SLOW):
        mel = LogMel(dataclasses.replace(spec, log=False))(sine)
        assert 0.6 < float(mel[5:-5].max()) < 2.5


@pytest.mark.parametrize("hop", [FAST.hop, 40])
def test_half_precision_of_a_stage_leaves_the_mel_as_it_is(hop):
    """Where the processor multiplies bfloat16 fast, a stage's step runs under autocast; short hops: piece by piece."""
    log_mel = LogMel(dataclasses.replace(FAST, hop=hop))
    clip = voice(0.5 if hop == FAST.hop else 16.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mel = log_mel(clip)
    assert mel.dtype == torch.float32 and torch.equal(mel, log_mel(clip))


def test_log_scaling_round_trips_and_floors():
    magnitude = torch.tensor([1e-9, 1e-3, 0.7])
    back = denormalise_log(normalise_log(magnitude, 1e-5))
    assert torch.allclose(back, torch.tensor([1e-5, 1e-3, 0.7]), rtol=1e-4)


def test_too_short_and_non_finite_clips_are_errors():
    with pytest.raises(ValueError, match="too short: 159 samples"):
        LogMel(FAST)(torch.zeros(159))
    with pytest.raises(ValueError, match="NaN or Inf"):
        LogMel(FAST)(torch.full((400,), float("nan")))


def test_a_wrong_spec_is_refused():
    with pytest.raises(ValueError, match="f_max"):
        dataclasses.replace(FAST, f_max=9000.0)
    with pytest.raises(ValueError, match="hop"):
        dataclasses.replace(FAST, win=2048)


@pytest.mark.parametrize("spec", [FAST, SLOW, dataclasses.replace(SLOW, log=False)])
def test_griffin_lim_gives_a_waveform_of_the_same_mel(spec):
    waveform = voice(1.6)
    mel = LogMel(spec)(waveform)
    rebuilt = GriffinLim(spec, iterations=32)(mel)
    assert rebuilt.shape == (len(mel) * spec.hop,)
    assert rebuilt.abs().max() == pytest.approx(0.95, abs=1e-3)
    again = LogMel(spec)(rebuilt)
    if spec.log:
        mel, again = denormalise_log(mel), denormalise_log(again)
    gain = (mel * again).sum() / (again * again).sum()
    error = (again * gain - mel).norm() / mel.norm()
    shuffled = (again.flip(0) * gain - mel).norm() / mel.norm()
    assert error < 0.25 < shuffled


def test_griffin_lim_is_repeatable_and_batched():
    mels = torch.stack([LogMel(FAST)(voice(0.5)), LogMel(FAST)(voice(0.9)[4000:12000])])
    search = GriffinLim(FAST, iterations=8)
    batch = search(mels)
    assert torch.allclose(batch[1], search(mels[1]), atol=1e-4)
    assert torch.equal(search(mels[0]), search(mels[0]))


def test_griffin_lim_refuses_what_cannot_sound():
    search = GriffinLim(FAST, iterations=2)
    for bad in (torch.zeros(0, 128), torch.zeros(4, 80), torch.full((4, 128), float("inf"))):
        with pytest.raises(ValueError, match="griffin_lim"):
            search(bad)


def test_a_gradient_does_not_change_the_magnitudes():
    clips = torch.stack([voice(0.5), voice(0.5).flip(0)])
    frontend = LogMel(FAST)
    torch.testing.assert_close(frontend.magnitudes(clips), frontend.magnitudes(clips.requires_grad_()).detach())


def test_silence_has_a_finite_gradient():
    clips = torch.zeros(1, 4000, requires_grad=True)
    LogMel(FAST).transform(clips).sum().backward()
    assert bool(torch.isfinite(clips.grad).all())


def test_samples_whose_sum_overflows_are_finite():
    clip = torch.full((16000,), 3e38)
    clip[::2] = -3e38
    clip[:200] = 3e38
    assert not bool(torch.isfinite(clip.sum()))
    LogMel(FAST).check(clip)
