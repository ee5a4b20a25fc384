"""What each stage trains, tiny."""

from torch import nn

from muomni.models.audio import Audio
from muomni.models.codec import Codec
from muomni.models.discriminators import Discriminators
from muomni.models.fourier_codec import FourierCodec
from muomni.models.ocr import Ocr
from muomni.models.omni import Omni
from muomni.models.projector import AudioProjector, ImageHead, ImageProjector
from muomni.models.talker import Talker
from muomni.models.text_tower import TextTower
from muomni.models.thinker import Thinker
from muomni.models.vision import VisionTransformer
from muomni.models.vocoder import Vocoder

SHAPE = {"dim": 8, "num_layers": 1, "num_heads": 2, "ff_dim": 16}
VISION = {"image_size": 16, "patch": 8, **SHAPE}


def thinker(**options: object) -> Thinker:
    """With every kind of layer that an option brings in."""
    shape = SHAPE | {"vocab_size": 12, "num_kv_heads": 2, "max_length": 9, "qk_norm": True, "short_conv": 3}
    return Thinker(**(shape | options))


def omni() -> nn.Module:
    """Everything unfrozen."""
    return Omni(
        thinker=thinker(),
        vision=VisionTransformer(**VISION),
        image_projector=ImageProjector(dim=8, out_dim=8, image_tokens="grid", grid=2, cell=1, hidden=6, positions=0.5),
        audio=audio(),
        audio_projector=AudioProjector(dim=8, out_dim=8, stack=2, characters=5, hidden=6),
    )


def audio() -> Audio:
    """With depthwise convolutions."""
    return Audio(n_mels=8, num_symbols=5, channels=2, downsample=4, conv_kernel=3, **SHAPE)


def codec(**options: object) -> Codec:
    """Codebooks by gradient."""
    shape = {"n_mels": 4, "stride": 2, "dim": 4, "num_codebooks": 2, "codebook_size": 4, "num_layers": 1, "width": 6}
    return Codec(**(shape | {"kernel": 3, "ff_dim": 8, "decay": None, "dropout": 0.0, "idle": 0.0} | options))


def fourier_codec() -> FourierCodec:
    """Finite scalars: all of the quantizer is learned."""
    return FourierCodec(
        sample_rate=100, hop=8, stride=2, overlap=4, quantizer="fsq", dim=4, num_codebooks=2, codebook_size=16, num_layers=1,
        frame_layers=1, width=6, kernel=3, ff_dim=8, decay=None, dropout=0.0, idle=0.0,
    )  # fmt: skip


def talker() -> Talker:
    """Two speakers, two codebooks."""
    return Talker(
        num_symbols=9, num_speakers=2, text_layers=1, text_kernel=3, num_codebooks=2, codebook_size=4, max_frames=9,
        shared_embedding=False, **SHAPE,
    )  # fmt: skip


def stages() -> dict[str, nn.Module]:
    """Stage -> what it trains; a mixture, other stems and a linear codec under names of their own."""
    return {
        "thinker": thinker(),
        "thinker, tied mixture": thinker(tied=True, num_experts=2, ff_dim=16),
        "vision": nn.ModuleDict(
            {
                "model": VisionTransformer(stem_channels=[3, 4], stem_patch=2, **VISION),
                "text_tower": TextTower(vocab_size=12, embed_dim=6, max_length=9, **SHAPE),
                "image_head": ImageHead(dim=8, embed_dim=6, pool="mean", grid=2),
            }
        ),
        "audio": audio(),
        "codec": codec(),
        "codec, one layer": codec(num_layers=0),
        "codec, waveforms": fourier_codec(),
        "talker": talker(),
        "omni_sft": omni(),
        "ocr": Ocr(num_symbols=12, max_characters=4, stem_channels=[3, 4], stem_patch=2, encoder_layers=1, **VISION),
        "vocoder": Vocoder(n_mels=4, hop=4, overlap=2, width=6, num_layers=1, kernel=3, ff_dim=8),
        "vocoder, discriminators": Discriminators(
            periods=[2], n_ffts=[16], period_channels=[2, 3], spectrogram_channels=[2, 3]
        ),
    }
