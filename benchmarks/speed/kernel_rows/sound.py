"""Mel spectrogram, Griffin-Lim and resampling, with torchaudio's.

Legend: B clips, T frames, F frequencies, N samples.
"""

from typing import Any

import torch
import torchaudio
from torch import Tensor

from benchmarks.speed.kernel_rows.contest import Contest, count_flops, inference, largest_difference, voices
from muomni.frontends.mel import LogMel, MelSpec, normalise_log
from muomni.frontends.resampler import Resampler
from muomni.inference.tts.griffin_lim import MOMENTUM, GriffinLim

#: conf/mel/hop160.yaml.
SPEC = MelSpec(sample_rate=16000, hop=160, n_fft=1024, win=400, bins=128, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)
ITERATIONS = 32
CHUNK = 0.1  # seconds of sound that a stream brings at a time


def mel(size: str) -> Contest:
    """Log-mel of a batch; torchaudio's with the same border and scale, all clips at once and one by one."""
    clips, ours = voices(16, 3.0, SPEC.sample_rate), LogMel(SPEC)
    transform = torchaudio.transforms.MelSpectrogram(
        SPEC.sample_rate, n_fft=SPEC.n_fft, win_length=SPEC.win, hop_length=SPEC.hop, f_min=SPEC.f_min, f_max=SPEC.f_max,
        n_mels=SPEC.bins, power=1.0, pad_mode="constant", norm=None, mel_scale="slaney",
    )  # fmt: skip

    def peer(clips: Tensor) -> Tensor:
        frames = transform(clips)[..., : SPEC.num_frames(clips.shape[-1])].transpose(-1, -2)
        return normalise_log(frames * ours.scale, SPEC.floor)

    return Contest(
        case="16 clips of 3 s, 128 bins at 100 Hz",
        ours=inference(ours, clips),
        peers={
            "torchaudio": inference(peer, clips),
            "torchaudio, clip by clip": inference(lambda: torch.stack([peer(clip) for clip in clips])),
        },
        difference=largest_difference, tolerance=1e-3, flops=count_flops(inference(ours, clips)), aim=2.0,
    )  # fmt: skip


def griffin_lim(size: str) -> Contest:
    """Mel -> waveform; torchaudio's search from our magnitudes, so that both look for the same transform."""
    clips, frontend = voices(4, 3.0, SPEC.sample_rate), LogMel(SPEC)
    target = frontend(clips)
    ours, window = GriffinLim(SPEC, iterations=ITERATIONS), torch.hann_window(SPEC.win)

    def peer() -> Tensor:
        magnitude = ours.magnitudes(target).transpose(1, 2)  # B F T
        torch.manual_seed(0)
        waveform: Tensor = torchaudio.functional.griffinlim(
            magnitude, window, n_fft=ours.length, hop_length=SPEC.hop, win_length=SPEC.win, power=1.0, n_iter=ITERATIONS,
            momentum=MOMENTUM, length=target.shape[1] * SPEC.hop, rand_init=True,
        )  # fmt: skip
        return waveform

    def error(waveform: Tensor) -> float:
        """Spectral convergence: distance of the mel's magnitudes, each clip at its best level."""
        wanted, found = frontend.magnitudes(clips), frontend.magnitudes(waveform)
        gain = (wanted * found).sum((1, 2), keepdim=True) / found.square().sum((1, 2), keepdim=True)
        return ((gain * found - wanted).norm() / wanted.norm()).item()

    return Contest(
        case=f"4 clips of 3 s, {ITERATIONS} iterations; difference: of the spectral errors",
        ours=inference(ours, target), peers={"torchaudio": inference(peer)},
        difference=lambda ours, peers: error(ours) - error(peers), tolerance=0.002, aim=3.0,
    )  # fmt: skip


def resampling(size: str) -> Contest:
    """44.1 kHz -> 16 kHz while the sound arrives; torchaudio takes the whole clip, in both precisions; its module
    keeps the filter, as ours does."""
    rate, target = 44100, 16000
    clip = voices(1, 5.0, rate)[0]
    chunks = clip.split(round(CHUNK * rate))

    def ours() -> Tensor:
        stream = Resampler(rate, target)
        return torch.cat([*map(stream.push, chunks), stream.close()])

    modules = {
        each: torchaudio.transforms.Resample(rate, target, dtype=each) for each in (torch.float32, torch.float64)
    }

    def peer(dtype: Any) -> Tensor:
        waveform: Tensor = modules[dtype](clip.to(dtype))
        return waveform.float()

    return Contest(
        case=f"5 s from 44.1 to 16 kHz; ours as a stream of {CHUNK} s",
        ours=inference(ours),
        peers={
            "torchaudio, whole, float64": inference(peer, torch.float64),
            "torchaudio, whole, float32": inference(peer, torch.float32),
        },
        difference=largest_difference, tolerance=1e-4, flops=count_flops(inference(peer, torch.float32)),
    )  # fmt: skip
