"""Features of frozen encoders, kept by key so that each image and clip is encoded once.

Images are encoded in groups of one size, filled up by zeros: what comes out for an image is then the same to the last bit
whatever the others of its group are, which it is not in batches of any size. So a resumed run, which has yet to encode all of
them again, in other company, ends with the weights of one that was never killed. Clips differ in length, and on a CPU, where
company saves little, each is encoded alone; elsewhere in groups, padded to a length that is a function of the clip's own.

Legend: N images, A audios, K tokens, W width, M mel bins.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from muomni.batch import OmniBatch
from muomni.models.omni import MediaFeatures, Omni

GROUP = 8  # images, or clips, that are encoded together
STEP = 64  # mel frames that lengths of clips in groups are multiples of


class MediaCache:
    """`encode` as the model's own, without gradients, from memory where a key is known.

    Args:
        megabytes: most memory of the features; beyond it, media are encoded each time.
    """

    def __init__(self, *, megabytes: int) -> None:
        self.free_bytes = megabytes * 2**20
        self._known: dict[str, Tensor] = {}

    @torch.no_grad()
    def images(self, model: Omni, batch: OmniBatch) -> Tensor | None:
        """(N, K, W)."""
        if batch.images is None:
            return None
        places = self._new(batch.image_keys)
        encoded = encode_images(model, [batch.images[place] for place in places.values()])
        return torch.stack(self._joined(dict(zip(places, encoded, strict=True)), batch.image_keys))

    @torch.no_grad()
    def audios(self, model: Omni, batch: OmniBatch) -> tuple[Tensor | None, list[int] | None]:
        """(A, K, W) padded, and lengths (A)."""
        if batch.mel is None or batch.mel_lengths is None:
            return None, None
        places = self._new(batch.audio_keys)
        counts = batch.mel_lengths.tolist() if batch.frame_counts is None else batch.frame_counts
        encoded = encode_clips(model, [batch.mel[place, : counts[place]] for place in places.values()])
        features = self._joined(dict(zip(places, encoded, strict=True)), batch.audio_keys)
        return pad_sequence(features, batch_first=True), [len(each) for each in features]

    def _new(self, keys: Sequence[str]) -> dict[str, int]:
        """Keys that are not known, and where each stands first."""
        places: dict[str, int] = {}
        for place, key in enumerate(keys):
            if key not in self._known:
                places.setdefault(key, place)
        return places

    def _joined(self, fresh: dict[str, Tensor], keys: Sequence[str]) -> list[Tensor]:
        """The features of all keys; the fresh ones are kept while memory allows."""
        features = [fresh[key] if key in fresh else self._known[key] for key in keys]
        for key, value in fresh.items():
            if value.nbytes <= self.free_bytes:
                self.free_bytes -= value.nbytes
                self._known[key] = value
        return features


def encode_images(model: Omni, images: Sequence[Tensor]) -> list[Tensor]:
    """Images (3, I, I) -> features (K, W) of each, the same bits in any company."""
    features: list[Tensor] = []
    for start in range(0, len(images), GROUP):
        group = torch.stack(list(images[start : start + GROUP]))
        encoded = model.encode(images=_filled(group)).images
        assert encoded is not None
        features += [each.clone() for each in encoded[: len(group)]]  # a view would keep the whole group
    return features


def encode_clips(model: Omni, mels: Sequence[Tensor]) -> list[Tensor]:
    """Mels (frames, M) -> features (K, W) of each, the same bits in any company."""
    if not mels or mels[0].device.type == "cpu":
        return [_encoded(model, mel[None], [len(mel)])[0] for mel in mels]
    alike: dict[int, list[int]] = defaultdict(list)
    for place, mel in enumerate(mels):
        alike[-(-len(mel) // STEP) * STEP].append(place)
    features: dict[int, Tensor] = {}
    for length, places in alike.items():
        for start in range(0, len(places), GROUP):
            group = places[start : start + GROUP]
            padded = torch.stack([F.pad(mels[place], (0, 0, 0, length - len(mels[place]))) for place in group])
            counts = [len(mels[place]) for place in group] + [length] * (GROUP - len(group))
            features |= dict(zip(group, _encoded(model, _filled(padded), counts), strict=False))
    return [features[place] for place in range(len(mels))]


def _encoded(model: Omni, mel: Tensor, counts: list[int]) -> list[Tensor]:
    lengths = torch.tensor(counts).to(mel.device, non_blocking=True)
    encoded = model.encode(mel=mel, mel_lengths=lengths)
    assert encoded.audios is not None
    tokens = audio_tokens(model, counts)
    return [row[:count].clone() for row, count in zip(encoded.audios, tokens, strict=True)]


def _filled(group: Tensor) -> Tensor:
    """Zeros up to GROUP rows."""
    return torch.cat([group, group.new_zeros(GROUP - len(group), *group.shape[1:])])


def audio_tokens(model: Omni, frames: Sequence[int]) -> list[int]:
    """Tokens of clips of so many mel frames."""
    assert model.audio is not None
    assert model.audio_projector is not None
    return [model.audio_projector.num_tokens(model.audio.encoder.stem.out_lengths(count)) for count in frames]


def features_of(model: Omni, batch: OmniBatch, cache: MediaCache | None) -> MediaFeatures:
    """Features of a batch's media; without a cache, with gradients as they come."""
    if cache is None:
        features = model.encode(images=batch.images, mel=batch.mel, mel_lengths=batch.mel_lengths)
        if batch.mel is not None and batch.frame_counts is not None:
            features.audio_counts = audio_tokens(model, batch.frame_counts)
        return features
    audios, counts = cache.audios(model, batch)
    lengths = None if counts is None else torch.tensor(counts).to(batch.ids.device, non_blocking=True)
    return MediaFeatures(images=cache.images(model, batch), audios=audios, audio_lengths=lengths, audio_counts=counts)
