"""Graphs of the encoders and their projectors: audio, images, captions.

Legend: B batch, T mel frames, T' frames of the encoder, M mel bins, D width, S symbols, I image side, P patches, N tokens.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.frontends.char_vocab import BLANK, STANDARD
from muomni.frontends.hearing import HearingSpec
from muomni.frontends.mel import MelSpec
from muomni.interop.onnx.hearing import HearingGraph
from muomni.interop.onnx.mel import MelGraph
from muomni.interop.onnx.spec import Graph, Port
from muomni.models.audio import Audio
from muomni.models.outputs import AudioOutput, VisionOutput
from muomni.models.projector import AudioProjector, ImageHead, ImageProjector
from muomni.models.text_tower import TextTower
from muomni.models.thinker import Thinker
from muomni.nn.conv import frame_mask

NEVER = -100.0  # log probability of a symbol where there is nothing to write


class AudioGraph(nn.Module):
    """`Audio`: mel, lengths -> log probabilities, hidden states, lengths. Frames after a row's length are blank."""

    nothing: Tensor

    def __init__(self, audio: Audio) -> None:
        super().__init__()
        self.audio = audio
        nothing = torch.full((audio.num_symbols,), NEVER)
        nothing[BLANK] = 0.0
        self.register_buffer("nothing", nothing)

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out: AudioOutput = self.audio(mel, lengths)
        valid = frame_mask(out.lengths, out.logits.shape[1])[..., None]
        return torch.where(valid, out.logits.log_softmax(-1), self.nothing), out.hidden, out.lengths


class AudioProjectorGraph(nn.Module):
    """`AudioProjector`: outputs of `AudioGraph` -> tokens and how many of each row are real."""

    def __init__(self, projector: AudioProjector) -> None:
        super().__init__()
        self.projector = projector

    def forward(self, log_probs: Tensor, hidden: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        pooled, counts = self.projector.pool_sound(AudioOutput(hidden=hidden, lengths=lengths, logits=log_probs))
        return self.projector.layers(pooled), counts


class AudioWordsGraph(AudioProjectorGraph):
    """The same with `words`: embeddings of word pieces, (B, any) and -1 where there is none, are the first tokens."""

    def __init__(self, projector: AudioProjector, embedding: nn.Module) -> None:
        super().__init__(projector)
        self.embedding = embedding

    def forward(  # type: ignore[override]
        self, log_probs: Tensor, hidden: Tensor, lengths: Tensor, pieces: Tensor
    ) -> tuple[Tensor, Tensor]:
        tokens, counts = super().forward(log_probs, hidden, lengths)
        count = tokens.shape[1]
        pieces = F.pad(pieces, (0, count), value=-1)[:, :count]
        return torch.where((pieces >= 0)[..., None], self.embedding(pieces.clamp(min=0)), tokens), counts


class VisionGraph(nn.Module):
    """An image encoder: images -> summary and patch grid."""

    def __init__(self, vision: nn.Module) -> None:
        super().__init__()
        self.vision = vision

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        out: VisionOutput = self.vision(images)
        return out.cls, out.grid


class ImageTokensGraph(nn.Module):
    """`ImageProjector` or `ImageHead`: summary and patch grid -> their tensors."""

    def __init__(self, projector: ImageProjector | ImageHead) -> None:
        super().__init__()
        self.projector = projector

    def forward(self, cls: Tensor, grid: Tensor) -> tuple[Tensor, ...]:
        features = VisionOutput(cls=cls, grid=grid)
        if isinstance(self.projector, ImageHead):
            return self.projector(features)
        return (self.projector(self.projector.pool(features)),)


class TextTowerGraph(nn.Module):
    """`TextTower`: ids, lengths -> the text's embedding and its tokens'."""

    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        out = self.tower(ids, lengths)
        return out.pooled, out.tokens


def mel_graph(name: str, spec: MelSpec) -> Graph:
    """A spectrogram."""
    return Graph(
        name=name,
        about=f"waveform at {spec.sample_rate} Hz -> log-mel, floor(samples / {spec.hop}) frames",
        module=MelGraph(spec),
        inputs=[_waveform(spec)],
        outputs=[Port(name="mel", axes=("batch", "frames", spec.bins), about="log-mel")],
        extra={"mel": spec.metadata()},
        exact=True,
    )


def hearing_graph(spec: MelSpec, hearing: HearingSpec | None) -> Graph:
    """What a recording becomes before the encoder."""
    if hearing is None:  # of micro-omni's checkpoints, which take the waveform as it is
        return mel_graph("hearing", spec)
    long = {"samples": round(65 * spec.sample_rate)}  # more than one block of background
    return Graph(
        name="hearing",
        about=f"waveform at {spec.sample_rate} Hz -> log-mel of the speech in it, at the level of the training",
        module=HearingGraph(spec, hearing),
        inputs=[_waveform(spec)],
        outputs=[
            Port(name="mel", axes=("batch", "frames", spec.bins), about="log-mel, the frames of speech first"),
            Port(name="lengths", axes=("batch",), dtype="int64", about="frames of speech; leave out the others"),
        ],
        extra={"mel": spec.metadata(), "hearing": hearing.metadata()},
        exact=True,
        traced=long,
        checked={"batch": 2, "samples": 3 * spec.sample_rate + 77},
    )


def audio_graph(audio: Audio) -> Graph:
    """The speech encoder with its CTC head."""
    frames = f"ceil(frames / {audio.downsample})"
    return Graph(
        name="audio",
        about="log-mel -> CTC log probabilities of characters, and hidden states for audio_projector",
        module=AudioGraph(audio),
        inputs=[
            Port(name="mel", axes=("batch", "frames", audio.n_mels), about="of hearing.onnx; padding may be anything"),
            Port(name="lengths", axes=("batch",), dtype="int64", about="frames of each row", low=1, high="frames"),
        ],
        outputs=[
            Port(name="log_probs", axes=("batch", "steps", audio.num_symbols), about=f"{frames} steps; 0 is the blank"),
            Port(name="hidden", axes=("batch", "steps", audio.dim), about="after the last norm"),
            Port(name="steps_of_row", axes=("batch",), dtype="int64", about="steps of each row; blank after them"),
        ],
        extra={"symbols": symbols(audio), "downsample": audio.downsample},
    )


def symbols(audio: Audio) -> list[str]:
    """What each class of the CTC head stands for, "" for the blank and for what has no character."""
    table = ["", *(audio.characters or STANDARD)]
    return table + ["\ufffd"] * (audio.num_symbols - len(table))


def audio_projector_graph(projector: AudioProjector, *, audio: Audio, thinker: Thinker) -> Graph:
    """Audio tokens for the Thinker."""
    out = _out_features(projector.layers)
    about = "ids of what log_probs spell, in the tokenizer's pieces, from the first on; -1: none"
    written = Port(name="pieces", axes=("batch", "pieces"), dtype="int64", about=about, low=-1, high=thinker.vocab_size)
    return Graph(
        name="audio_projector",
        about="outputs of audio.onnx -> audio tokens for thinker.onnx",
        module=AudioWordsGraph(projector, thinker.embedding) if projector.words else AudioProjectorGraph(projector),
        inputs=[
            Port(name="log_probs", axes=("batch", "frames", audio.num_symbols), about="of audio.onnx"),
            Port(name="hidden", axes=("batch", "frames", audio.dim), about="of audio.onnx"),
            Port(name="steps_of_row", axes=("batch",), dtype="int64", about="of audio.onnx", low=1, high="frames"),
            *([written] if projector.words else []),
        ],
        outputs=[
            Port(name="tokens", axes=("batch", "slots", out), about=f"one for {projector.stack} steps, rounded up"),
            Port(name="counts", axes=("batch",), dtype="int64", about="tokens of each row; leave out the others"),
        ],
        traced={"pieces": 6},
        checked={"pieces": 4},
    )


def vision_graph(vision: Any, *, image: Any) -> Graph:
    """The image encoder. image: the frontend's numbers."""
    side, patches, size = vision.side, vision.side**2, vision.image_size
    return Graph(
        name="vision",
        about="images -> a summary and a patch grid",
        module=VisionGraph(vision),
        inputs=[Port(name="images", axes=("batch", 3, size, size), about="RGB, (value / 255 - mean) / std")],
        outputs=[
            Port(name="cls", axes=("batch", 1, vision.dim), about="the summary"),
            Port(name="grid", axes=("batch", patches, vision.dim), about=f"{side} x {side} patches, row by row"),
        ],
        extra={"image": image},
    )


def image_tokens_graph(name: str, projector: ImageProjector | ImageHead, *, vision: Any) -> Graph:
    """Of the features of an image: tokens for the Thinker, or embeddings to be compared with text."""
    patches, dim = vision.side**2, vision.dim
    if isinstance(projector, ImageHead):
        about = "outputs of vision.onnx -> embeddings in the space of text_tower.onnx, not normalised"
        width, cells = projector.pooled_head.out_features, projector.grid**2
        outputs = [
            Port(name="image_embedding", axes=("batch", width), about="of the image"),
            Port(
                name="cell_embeddings",
                axes=("batch", cells, width),
                about=f"of {projector.grid} x {projector.grid} cells",
            ),
        ]
    else:
        about = "outputs of vision.onnx -> image tokens for thinker.onnx"
        tokens = Port(
            name="tokens", axes=("batch", projector.num_tokens, _out_features(projector.layers)), about="of the image"
        )
        outputs = [tokens]
    return Graph(
        name=name,
        about=about,
        module=ImageTokensGraph(projector),
        inputs=[
            Port(name="cls", axes=("batch", 1, dim), about="of vision.onnx"),
            Port(name="grid", axes=("batch", patches, dim), about="of vision.onnx"),
        ],
        outputs=outputs,
    )


def text_tower_graph(tower: TextTower) -> Graph:
    """The caption encoder."""
    vocab, width = tower.embedding.num_embeddings, tower.pooled_head.out_features
    return Graph(
        name="text_tower",
        about=f"token ids of captions, at most {tower.max_length} -> embeddings in the space of image_head.onnx",
        module=TextTowerGraph(tower),
        inputs=[
            Port(
                name="ids", axes=("batch", "tokens"), dtype="int64", about="of the tokenizer, padded by any", high=vocab
            ),
            Port(name="lengths", axes=("batch",), dtype="int64", about="tokens of each row", low=1, high="tokens"),
        ],
        outputs=[
            Port(name="text_embedding", axes=("batch", width), about="of the text"),
            Port(name="token_embeddings", axes=("batch", "tokens", width), about="of each token"),
        ],
    )


def _waveform(spec: MelSpec) -> Port:
    return Port(name="waveform", axes=("batch", "samples"), about=f"mono in [-1, 1], at least {spec.hop} samples")


def _out_features(layers: nn.Module) -> int:
    last = layers[-1] if isinstance(layers, nn.Sequential) else layers
    assert isinstance(last, nn.Linear)
    return last.out_features
