"""Media that tell nothing: zeroed, or of other items."""

import torch

from muomni.evaluation.controls import media_controls
from muomni.models.omni import MediaFeatures


def test_blind_is_zero_and_shuffled_is_half_a_batch_away_in_the_length_of_the_replaced():
    audios = torch.tensor([[1.0, 2, 3], [4, 5, 0]])[..., None]
    features = MediaFeatures(
        images=torch.arange(4.0)[:, None, None], audios=audios, audio_lengths=torch.tensor([3, 2]), audio_counts=[3, 2]
    )
    controls = media_controls(features)
    assert not controls["blind"].images.any() and not controls["blind"].audios.any()
    assert controls["shuffled"].images.flatten().tolist() == [2, 3, 0, 1]
    assert controls["shuffled"].audios[..., 0].tolist()[0] == [4, 5, 4]  # repeated
    assert controls["shuffled"].audios[..., 0].tolist()[1][:2] == [1, 2]  # cut
    assert controls["shuffled"].audio_counts == [3, 2] and features.audios is audios


def test_what_a_batch_lacks_stays_absent():
    controls = media_controls(MediaFeatures(images=torch.ones(1, 1, 1)))
    assert controls["shuffled"].audios is None and controls["blind"].audios is None
