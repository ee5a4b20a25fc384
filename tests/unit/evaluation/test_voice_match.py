"""Whether speech has the voice of its reference."""

import pytest
import torch

from muomni.evaluation.voice_match import voice_match, voice_spectrum
from tests.unit.inference.tts.test_reference_speech import spoken


def test_pairs_of_speakers_by_hand():
    references = [[0.0], [1.0], [10.0]]
    assert voice_match([[0.1], [0.9], [9.0]], references, [0, 0, 1]) == 100.0
    assert voice_match([[9.0], [0.9], [0.0]], references, [0, 0, 1]) == 25.0  # only the second is nearer to its own
    assert voice_match([[5.4], [5.6], [5.6]], references, [0, 0, 1]) == pytest.approx(50.0)
    assert voice_match([[0.0], [1.0]], references[:2], [3, 3]) is None


def test_a_spectrum_knows_neither_level_nor_pauses():
    voice = spoken(120)
    plain, other = torch.tensor(voice_spectrum(voice, 16000)), torch.tensor(voice_spectrum(spoken(220), 16000))
    changed = torch.cat([torch.zeros(8000), 0.3 * voice, torch.zeros(16000)])
    same = torch.tensor(voice_spectrum(changed, 16000))
    assert (plain - same).norm() < 0.25 * (plain - other).norm()
    assert abs(float(plain.mean())) < 1e-4
