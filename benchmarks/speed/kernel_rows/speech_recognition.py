"""CTC: the loss, a training step of the recognizer, and beam search, with torch's and flashlight's.

Legend: B clips, T frames, S symbols with the blank at 0, C characters, M mel bins.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.speed.decoders import network
from benchmarks.speed.kernel_rows.contest import Call, Contest, inference, largest_difference, missing
from benchmarks.speed.kernel_rows.training import stage_step, train_step
from muomni.batch import SpeechBatch
from muomni.frontends.char_vocab import BLANK, NUM_LOGITS
from muomni.inference.asr.ctc_beam import CtcBeamSearch
from muomni.losses.ctc import ctc_loss, frames_needed

CLIPS, CHARACTERS, SECONDS = 16, 40, 4
BEAMS = 16


def targets() -> tuple[Tensor, Tensor]:
    """Characters (B, C) and their lengths (B), from half of C on."""
    generator = torch.Generator().manual_seed(2)
    characters = torch.randint(1, NUM_LOGITS, (CLIPS, CHARACTERS), generator=generator)
    lengths = torch.randint(CHARACTERS // 2, CHARACTERS + 1, (CLIPS,), generator=generator)
    return characters * (torch.arange(CHARACTERS) < lengths[:, None]), lengths


def loss_row(size: str) -> Contest:
    """The loss and its gradient, lengths known to the host as in training."""
    characters, lengths = targets()
    frames = torch.full((CLIPS,), 25 * SECONDS)
    known = frames.tolist(), lengths.tolist(), frames_needed(characters, lengths).tolist()
    logits = torch.randn(CLIPS, 25 * SECONDS, NUM_LOGITS, generator=torch.Generator().manual_seed(0))

    def gradient(loss: Any) -> Tensor:
        leaf = logits.clone().requires_grad_()
        loss(leaf).backward()
        assert leaf.grad is not None
        return leaf.grad

    def peer(leaf: Tensor) -> Tensor:
        log_probs = leaf.log_softmax(-1).transpose(0, 1)
        return F.ctc_loss(log_probs, characters, frames, lengths, blank=BLANK, reduction="sum") / lengths.sum()

    return Contest(
        case=f"{CLIPS} clips of {SECONDS} s at 25 Hz, {NUM_LOGITS} symbols",
        ours=lambda: gradient(lambda leaf: ctc_loss(leaf, frames, characters, lengths, known=known).loss),
        peers={"torch": lambda: gradient(peer)}, difference=largest_difference, tolerance=1e-6,
    )  # fmt: skip


class TorchCtc(nn.Module):
    """torch's TransformerEncoder of the shape of an `Audio`, after a stem like its own, and a linear head; returns the loss."""

    def __init__(self, size: str) -> None:
        super().__init__()
        audio: Any = network("audio", size)
        blocks = audio.encoder.transformer.blocks
        layer = nn.TransformerEncoderLayer(
            audio.dim, blocks[0].attention.heads, blocks[0].mlp.up.out_features, dropout=0.0, activation="gelu",
            batch_first=True, norm_first=True,
        )  # fmt: skip
        self.stem = audio.encoder.stem.requires_grad_(True)
        self.encoder = nn.TransformerEncoder(
            layer, len(blocks), norm=nn.LayerNorm(audio.dim), enable_nested_tensor=False
        )
        self.head = nn.Linear(audio.dim, NUM_LOGITS)

    def forward(self, mel: Tensor, characters: Tensor, frames: list[int], lengths: list[int]) -> Tensor:
        log_probs = self.head(self.encoder(self.stem(mel, None))).float().log_softmax(-1).transpose(0, 1)
        nats = F.ctc_loss(log_probs, characters, frames, lengths, blank=BLANK, reduction="sum")  # type: ignore[arg-type]
        return nats / sum(lengths)


def step_row(size: str, *, compiled: bool = True) -> Contest:
    """Forward, loss, backward, clipping and AdamW, of the stage as train.py builds it."""
    characters, lengths = targets()
    mel = torch.randn(CLIPS, 100 * SECONDS, 128, generator=torch.Generator().manual_seed(0))
    ours, flops = stage_step("audio", size, _batch(mel, characters, lengths), compiled=compiled)
    example = (mel, characters, [25 * SECONDS] * CLIPS, lengths.tolist())
    peer = train_step(TorchCtc(size), example, compiled=compiled)
    return Contest(
        case=f"{CLIPS} clips of {SECONDS} s, encoder of size={size}{', compiled' if compiled else ''}; the peer has no positions",
        ours=ours, peers={"torch's TransformerEncoder": peer}, flops=flops, autocast=True,
    )  # fmt: skip


def _batch(mel: Tensor, characters: Tensor, lengths: Tensor) -> SpeechBatch:
    rows = len(mel)
    batch = SpeechBatch(
        mel=mel, mel_lengths=torch.full((rows,), mel.shape[1]), characters=characters, character_lengths=lengths,
        speakers=torch.zeros(rows, dtype=torch.long), texts=[""] * rows, audio=[],
        sample_ids=[str(number) for number in range(rows)],
    )  # fmt: skip
    batch.precompute()
    return batch


def spoken(frames: int) -> Tensor:
    """Log-probabilities (T, S) like a recognizer's: a character every third frame or so, which is mostly certain."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(frames, NUM_LOGITS, generator=generator)
    symbols = torch.randint(1, 96, (frames,), generator=generator)
    symbols[torch.rand(frames, generator=generator) < 0.65] = BLANK
    sure = 6 + 5 * torch.rand(frames, generator=generator)
    return (logits + sure[:, None] * F.one_hot(symbols, NUM_LOGITS)).log_softmax(-1)


def flashlight(log_probs: Tensor) -> Call:
    """flashlight's decoder through torchaudio's, without lexicon and language model -> ids of the best hypothesis."""
    from torchaudio.models.decoder import ctc_decoder

    decoder = ctc_decoder(
        lexicon=None, tokens=[f"<{number}>" for number in range(NUM_LOGITS)], lm=None, nbest=1, beam_size=BEAMS,
        beam_threshold=1e9, log_add=True, blank_token=f"<{BLANK}>", sil_token=f"<{NUM_LOGITS - 1}>",
    )  # fmt: skip
    silence = NUM_LOGITS - 1

    def best() -> tuple[int, ...]:
        tokens: list[int] = decoder(log_probs[None])[0][0].tokens.tolist()
        return tuple(tokens[tokens[0] == silence : len(tokens) - (tokens[-1] == silence)])  # which it puts around

    return best


def beam_row(size: str) -> Contest:
    """Prefix beam search without a language model: its best text."""
    log_probs = spoken(25 * 10)
    search, why = CtcBeamSearch(beams=BEAMS, lm=None, lm_weight=0.0, bonus=0.0), missing("flashlight")
    return Contest(
        case=f"10 s at 25 Hz, {NUM_LOGITS} symbols, {BEAMS} beams",
        ours=inference(lambda: search(log_probs)[0].ids),
        peers={} if why else {"flashlight (torchaudio)": flashlight(log_probs)},
        absent={"flashlight (torchaudio)": why} if why else {},
        difference=lambda ours, peers: float(ours != peers),
    )  # fmt: skip
