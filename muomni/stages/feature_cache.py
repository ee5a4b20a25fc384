"""Features of frozen encoders, kept by key so that each image and clip is encoded once.

Images are encoded in groups of one size, padded by zeros: an image's features are then the same to the last bit whatever the
others of its group are, which they are not in batches of any size. So a resumed run, which encodes all of them again, in other
groups, ends with the weights of one that was never killed. Clips differ in length, and on a CPU, where groups save little, each
is encoded alone; elsewhere in groups, padded to a length that is a function of the clip's own.

Legend: N images, A audios, K tokens, W width, M mel bins.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from muomni.batch import OmniBatch
from muomni.frontends.memory_file import Media
from muomni.models.omni import MediaFeatures, Omni

GROUP = 8  # images, or clips, that are encoded together
STEP = 64  # mel frames that lengths of clips in groups are multiples of


class MediaCache:
    """`encode` as the model's own, without gradients, from memory where a key is known: under autocast what was encoded under
    autocast, else what was encoded without.

    Args:
        megabytes: most memory of the features; beyond it, media are encoded each time.
    """

    def __init__(self, *, megabytes: int) -> None:
        self.free_bytes = megabytes * 2**20
        #: By media, and whether under autocast: tests compute in float32 what training had in bfloat16.
        self._known: dict[tuple[Media, bool], Tensor] = {}
        #: Of the last batch, what was not known: images, and (clips, mel frames) of each group, padding included.
        self.encoded: tuple[int, list[tuple[int, int]]] = (0, [])

    @torch.no_grad()
    def images(self, model: Omni, batch: OmniBatch) -> Tensor | None:
        """(N, K, W)."""
        images = batch.images
        if images is None:
            return None

        def encode(new: list[int]) -> list[Tensor]:
            self.encoded = (-(-len(new) // GROUP) * GROUP, self.encoded[1])
            return encode_images(model, [images[n] for n in new])

        return torch.stack(self._features(batch.image_keys, encode, device_type=images.device.type))

    @torch.no_grad()
    def audios(self, model: Omni, batch: OmniBatch) -> tuple[Tensor | None, list[int] | None]:
        """(A, K, W) padded, and lengths (A)."""
        mel = batch.mel
        if mel is None or batch.mel_lengths is None:
            return None, None
        counts = batch.mel_lengths.tolist() if batch.frame_counts is None else batch.frame_counts

        def encode(new: list[int]) -> list[Tensor]:
            self.encoded = (self.encoded[0], clip_groups([counts[n] for n in new], alone=mel.device.type == "cpu"))
            return encode_clips(model, [mel[n, : counts[n]] for n in new])

        features = self._features(batch.audio_keys, encode, device_type=mel.device.type)
        return pad_sequence(features, batch_first=True), [len(each) for each in features]

    def _features(
        self, keys: list[Media], encode: Callable[[list[int]], list[Tensor]], *, device_type: str
    ) -> list[Tensor]:
        """The features of all keys. encode: indices of those that are not known -> theirs, kept while memory allows."""
        known = [(key, torch.is_autocast_enabled(device_type)) for key in keys]
        new = {key: known.index(key) for key in known if key not in self._known}
        fresh = dict(zip(new, encode(list(new.values())), strict=True))
        features = [fresh[key] if key in fresh else self._known[key] for key in known]
        for key, value in fresh.items():
            if value.nbytes <= self.free_bytes:
                self.free_bytes -= value.nbytes
                self._known[key] = value
        return features


def encode_images(model: Omni, images: Sequence[Tensor]) -> list[Tensor]:
    """Images (3, I, I) -> features (K, W) of each, the same bits whatever the others are."""
    features: list[Tensor] = []
    for start in range(0, len(images), GROUP):
        group = torch.stack(list(images[start : start + GROUP]))
        encoded = model.encode(images=_filled(group)).images
        assert encoded is not None
        features += [each.clone() for each in encoded[: len(group)]]  # a view would keep the whole group
    return features


def encode_clips(model: Omni, mels: Sequence[Tensor]) -> list[Tensor]:
    """Mels (frames, M) -> features (K, W) of each, the same bits whatever the others are."""
    if not mels or mels[0].device.type == "cpu":
        return [_encoded(model, mel[None], [len(mel)])[0] for mel in mels]
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, mel in enumerate(mels):
        by_length[-(-len(mel) // STEP) * STEP].append(index)
    features: dict[int, Tensor] = {}
    for length, indices in by_length.items():
        for start in range(0, len(indices), GROUP):
            group = indices[start : start + GROUP]
            padded = torch.stack([F.pad(mels[index], (0, 0, 0, length - len(mels[index]))) for index in group])
            counts = [len(mels[index]) for index in group] + [length] * (GROUP - len(group))
            features |= dict(zip(group, _encoded(model, _filled(padded), counts), strict=False))
    return [features[index] for index in range(len(mels))]


def clip_groups(frames: Sequence[int], *, alone: bool) -> list[tuple[int, int]]:
    """Clips of so many mel frames as `encode_clips` encodes them: (clips, frames of each) of each group. alone: each is one."""
    if alone:
        return [(1, count) for count in frames]
    counts = Counter(-(-count // STEP) * STEP for count in frames)
    return [(GROUP, length) for length, clips in counts.items() for _ in range(-(-clips // GROUP))]


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
    return [model.audio_projector.num_tokens(model.audio.out_lengths(count)) for count in frames]


def features_of(model: Omni, batch: OmniBatch, cache: MediaCache | None) -> MediaFeatures:
    """Features of a batch's media; without a cache, with gradients as they come."""
    if cache is None:
        features = model.encode(images=batch.images, mel=batch.mel, mel_lengths=batch.mel_lengths)
        if batch.mel is not None and batch.frame_counts is not None:
            features.audio_counts = audio_tokens(model, batch.frame_counts)
        return features
    cache.encoded = (0, [])
    audios, counts = cache.audios(model, batch)
    lengths = None if counts is None else torch.tensor(counts).to(batch.ids.device, non_blocking=True)
    return MediaFeatures(images=cache.images(model, batch), audios=audios, audio_lengths=lengths, audio_counts=counts)
