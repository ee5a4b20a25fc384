import torch

from muomni.frontends.loudness import PEAK, peak_normalise


def test_the_largest_sample_becomes_the_peak_and_silence_stays_silence():
    waveform = torch.stack([torch.tensor([0.1, -0.4, 0.2]), torch.zeros(3), torch.tensor([3.0, 0.0, 1.0])])
    made = peak_normalise(waveform)
    torch.testing.assert_close(made.abs().amax(1), torch.tensor([PEAK, 0.0, PEAK]))
    torch.testing.assert_close(made[0] / PEAK, waveform[0] / 0.4)
