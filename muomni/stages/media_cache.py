"""Features of frozen encoders, kept by key so that each picture and clip is encoded once.

Each is encoded alone: among others its last bits would depend on them, and a resumed run, which has yet to encode all of them
again, would not end with the weights of one that was never killed.

Legend: N images, A audios, K tokens, W width.
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from muomni.batch import OmniBatch
from muomni.models.omni import MediaFeatures, Omni


class MediaCache:
    """`encode` as the model's own, without gradients, from memory where a key is known.

    Args:
        megabytes: most memory of the features; beyond it, media are encoded each time.
    """

    def __init__(self, *, megabytes: int) -> None:
        self.room = megabytes * 2**20
        self._known: dict[str, Tensor] = {}

    @torch.no_grad()
    def images(self, model: Omni, batch: OmniBatch) -> Tensor | None:
        """(N, K, W)."""
        if batch.images is None:
            return None
        fresh: dict[str, Tensor] = {}
        for place, key in enumerate(batch.image_keys):
            if key not in self._known and key not in fresh:
                encoded = model.encode(images=batch.images[place, None]).images
                assert encoded is not None
                fresh[key] = encoded[0]
        features = [fresh[key] if key in fresh else self._known[key] for key in batch.image_keys]
        self._keep(fresh)
        return torch.stack(features)

    @torch.no_grad()
    def audios(self, model: Omni, batch: OmniBatch) -> tuple[Tensor | None, Tensor | None]:
        """(A, K, W) padded, and lengths (A)."""
        if batch.mel is None or batch.mel_lengths is None:
            return None, None
        fresh: dict[str, Tensor] = {}
        for place, key in enumerate(batch.audio_keys):
            if key not in self._known and key not in fresh:
                length = batch.mel_lengths[place, None]
                encoded = model.encode(mel=batch.mel[place, None, : int(length)], mel_lengths=length)
                assert encoded.audios is not None
                fresh[key] = encoded.audios[0]
        features = [fresh[key] if key in fresh else self._known[key] for key in batch.audio_keys]
        self._keep(fresh)
        lengths = torch.tensor([len(each) for each in features], device=batch.ids.device)
        return pad_sequence(features, batch_first=True), lengths

    def _keep(self, fresh: dict[str, Tensor]) -> None:
        for key, value in fresh.items():
            if value.nbytes <= self.room:
                self.room -= value.nbytes
                self._known[key] = value


def features_of(model: Omni, batch: OmniBatch, cache: MediaCache | None) -> MediaFeatures:
    """Features of a batch's media; without a cache, with gradients as they come."""
    if cache is None:
        return model.encode(images=batch.images, mel=batch.mel, mel_lengths=batch.mel_lengths)
    audios, lengths = cache.audios(model, batch)
    return MediaFeatures(images=cache.images(model, batch), audios=audios, audio_lengths=lengths)


def features_of_row(features: MediaFeatures, batch: OmniBatch, row: int) -> MediaFeatures:
    """One row's own media."""
    images = [place for place, owner in enumerate(batch.image_rows) if owner == row]
    audios = [place for place, owner in enumerate(batch.audio_rows) if owner == row]
    own = MediaFeatures()
    if images and features.images is not None:
        own.images = features.images[images]
    if audios and features.audios is not None and features.audio_lengths is not None:
        own.audio_lengths = features.audio_lengths[audios]
        own.audios = features.audios[audios][:, : int(own.audio_lengths.max())]
    return own
