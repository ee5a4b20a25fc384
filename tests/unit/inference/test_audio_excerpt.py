"""What the Thinker hears: silence does not count, too much is refused before it is computed, what is cut off changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from muomni.frontends.hearing import UNSAID, Hearing
from muomni.frontends.mel import LogMel, MelSpec
from muomni.inference.audio_excerpt import AudioLimit, AudioTooLongError
from muomni.inference.media import Media

MEL = MelSpec(sample_rate=16000, hop=160, n_fft=1024, win=400, bins=40, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)
SPEC = replace(UNSAID, margin=0.25)
MEDIA = Media(image=None, mel=MEL, hearing=SPEC)
HEAR = Hearing(MEL, SPEC)


def limit(seconds, *, truncate=False):
    return AudioLimit(tokens=round(seconds * 12.5), frames_per_token=8, truncate=truncate)


def log_mel(source, *, limit, media=MEDIA):
    return media.excerpt(media.limited_waveform(source, limit=limit), limit=limit, source=source)


def talk(seconds, seed=0):
    """Bursts of noise four times a second."""
    loud = np.where(np.arange(round(seconds * 16000)) % 4000 < 2400, 0.1, 0.001)
    return torch.from_numpy(loud * np.random.default_rng(seed).normal(size=len(loud))).float()


def silent(seconds):
    return torch.zeros(round(seconds * 16000))


def test_silence_around_a_question_costs_nothing():
    question = talk(2.0)
    alone = log_mel(question, limit=limit(3))
    around = log_mel(torch.cat([silent(9), question, silent(6)]), limit=limit(3))
    assert len(alone) == 200
    assert 200 <= len(around) <= 270


def test_too_much_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    path = tmp_path / "long.wav"
    soundfile.write(path, talk(20).numpy(), 16000)
    calls = []
    monkeypatch.setattr(LogMel, "magnitudes", lambda *_: calls.append(1))
    for source, name in ((path, r"long\.wav"), (talk(20), "the audio")):
        with pytest.raises(AudioTooLongError, match=rf"{name}: 20\.0 s, 250 audio tokens, at most 38 .* truncate=true"):
            log_mel(source, limit=limit(3))
    assert not calls


def test_more_speech_than_fits_is_refused():
    with pytest.raises(AudioTooLongError, match="50 audio tokens, at most 38"):
        log_mel(talk(4), limit=limit(3))


def test_what_truncate_cuts_off_changes_nothing(tmp_path):
    head = torch.cat([silent(1.7), talk(7.0)])
    kept = log_mel(head, limit=limit(3, truncate=True))
    assert len(kept) == 304
    for tail in (talk(60, seed=1), 0.99 * torch.randn(160_000), silent(20)):
        torch.testing.assert_close(log_mel(torch.cat([head, tail]), limit=limit(3, truncate=True)), kept)
    soundfile.write(tmp_path / "a.wav", torch.cat([head, talk(200)]).numpy(), 16000, subtype="FLOAT")
    torch.testing.assert_close(log_mel(tmp_path / "a.wav", limit=limit(3, truncate=True)), kept)


def test_truncate_finds_a_voice_behind_a_long_silence_and_leaves_short_sounds_alone():
    late = torch.cat([silent(8), talk(1)])
    assert 100 <= len(log_mel(late, limit=limit(3, truncate=True))) <= 150
    torch.testing.assert_close(log_mel(talk(2), limit=limit(3, truncate=True)), HEAR(talk(2)).trimmed())
    assert len(log_mel(silent(10), limit=limit(3, truncate=True))) == 304


def test_without_a_front_end_all_of_a_sound_counts():
    plain = Media(image=None, mel=MEL, hearing=None)
    with pytest.raises(AudioTooLongError):
        log_mel(silent(4), limit=limit(3), media=plain)
    assert len(log_mel(silent(2), limit=limit(3), media=plain)) == 200


def test_waveforms_in_the_scale_of_whole_numbers_are_heard_alike(caplog):
    clip = talk(2)
    torch.testing.assert_close(log_mel(clip * 32768, limit=limit(3)), log_mel(clip, limit=limit(3)), atol=1e-3, rtol=0)
    assert "numbers of 16 bits" in caplog.text
