"""The same questions with media that tell nothing: what a model answers then, it did not see or hear.

Legend: N images, A audios, T tokens, D width.
"""

from dataclasses import replace

import torch

from muomni.models.omni import MediaFeatures


def media_controls(features: MediaFeatures) -> dict[str, MediaFeatures]:
    """{"blind": all features zero, "shuffled": those of other items}, the same numbers of tokens.

    Another item is half a batch away, since neighbours are often complementary pairs; its audio is repeated or cut to the
    length of the one that it replaces.
    """
    return {
        "blind": replace(features, images=_zeros(features.images), audios=_zeros(features.audios)),
        "shuffled": replace(features, images=_half_around(features.images), audios=_other_audios(features)),
    }


def _zeros(values: torch.Tensor | None) -> torch.Tensor | None:
    return None if values is None else torch.zeros_like(values)


def _half_around(values: torch.Tensor | None) -> torch.Tensor | None:
    return None if values is None else values.roll(max(1, len(values) // 2), dims=0)


def _other_audios(features: MediaFeatures) -> torch.Tensor | None:
    others, lengths = _half_around(features.audios), _half_around(features.audio_lengths)
    if others is None or lengths is None:
        return None
    steps = torch.arange(others.shape[1], device=others.device) % lengths.clamp(min=1)[:, None]  # (A, T)
    return others.gather(1, steps[..., None].expand_as(others))
