"""The Talker: text -> codes of the codec, frame by frame.

A decoder-only transformer over [characters of the text][start frame][frames so far]. Every character has a time: the frame in
which it is spoken. The text encoder predicts the durations between these times (learned from a recognizer's alignments, as in
FastSpeech, Ren et al. 2019, arXiv:1905.09263). The time is the character's rotary position, and the text around a frame's own
time is added to its input: text and speech are aligned from the first step of training, and attention only has to correct.
Codes of a frame are predicted together, one head a codebook, or each after those before it (depth.py, delay.py); a further
head predicts whether the frame is the last.

That is alignment=free. With alignment=durations the transformer reads frames alone: each is told which character it speaks
(aligned_text.py), and speech ends where the durations end. So the transformer has not to learn where in the text it is.

Legend: B batch, C characters, T frames, D width, K codebooks, E entries, S = C + T, H width of the Thinker.
"""

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.models.aligned_text import AlignedText, log_durations, with_silences
from muomni.models.delay import by_frame, delayed_inputs, delayed_prefill, delayed_step
from muomni.models.depth import DepthConditioning
from muomni.models.outputs import TalkerOutput
from muomni.models.reference_voice import ReferenceEncoder
from muomni.models.registry import check_characters, check_choices, register
from muomni.models.talker_cache import TalkerCache as TalkerCache
from muomni.models.talker_weights import INPUT_STD, initialise_talker
from muomni.models.text_conditioning import TextConditioning
from muomni.models.text_read import TextRead, upsample_text
from muomni.nn.attention import Attention
from muomni.nn.context import AttentionContext
from muomni.nn.conv import frame_mask
from muomni.nn.masks import PaddingMask
from muomni.nn.mlp import SwiGLU
from muomni.nn.rope import Rope
from muomni.nn.transformer import stack

CHOICES = {
    "alignment": ("free", "durations"), "pattern": ("parallel", "delay", "depth"), "reads": ("letters", "phonemes"),
    "conditioning": ("text", "hidden", "both"),
}  # fmt: skip


@register("talker")
class Talker(nn.Module):
    """Text-conditioned decoder of codes.

    Args:
        num_symbols, num_speakers, text_layers, text_kernel: see `TextConditioning`.
        num_codebooks: K, at most the codec's. codebook_size: E.
        dim, num_layers, num_heads, ff_dim: shape of the blocks.
        max_frames: most frames it speaks.
        shared_embedding: one table of codes for all codebooks (the published reference), else one each.
        start_std: standard deviation of the start frame before training; 0 are zeros (the published reference).
        characters: of the table, after the padding and before one for all others; None: the standard ones.
        alignment: free | durations.
        text_dropout: probability that a row in training has no text: its frames are told who speaks, and when its characters are
            spoken, not which they are. For a guidance (muomni/inference/tts/options.py).
        pattern: parallel | delay | depth: a code follows from none of its frame, or from those of the codebooks before it.
        reads: letters | phonemes: what its characters are (muomni/frontends/spoken_symbols.py).
        speaker_vector: a voice may be the vector of a clip (`speaker_vectors`), in place of a number.
        conditioning, state_width: see `TextConditioning`. But for `text`, what reads a text takes its `states` (B, C, H), too.
    """

    code_offset: Tensor

    def __init__(
        self,
        *,
        num_symbols: int,
        num_speakers: int,
        text_layers: int,
        text_kernel: int,
        num_codebooks: int,
        codebook_size: int,
        dim: int,
        num_layers: int,
        num_heads: int,
        ff_dim: int,
        max_frames: int,
        shared_embedding: bool,
        start_std: float = INPUT_STD,
        rope_theta: float = 10000.0,
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
        characters: str | None = None,
        alignment: str = "free",
        speaker_vector: bool = False,
        text_dropout: float = 0.0,
        pattern: str = "parallel",
        reads: str = "letters",
        conditioning: str = "text",
        state_width: int = 0,
    ) -> None:
        super().__init__()
        check_characters(characters, num_symbols=num_symbols, others=1)
        check_choices(CHOICES, alignment=alignment, pattern=pattern, reads=reads, conditioning=conditioning)
        guided = alignment == "durations"
        self.alignment, self.pattern, self.characters, self.num_symbols = alignment, pattern, characters, num_symbols
        self.conditioning, self.state_width = conditioning, state_width
        self.num_codebooks, self.codebook_size, self.num_speakers = num_codebooks, codebook_size, num_speakers
        self.num_layers, self.num_heads, self.head_dim = num_layers, num_heads, dim // num_heads
        self.max_frames, self.dim, self.text_dropout, self.reads = max_frames, dim, text_dropout, reads
        self.told_width = dim + guided  # of what a frame is told
        self.lag = num_codebooks - 1 if pattern == "delay" else 0  # steps after which a frame is complete
        self.text = TextConditioning(
            num_symbols=num_symbols, silences=2 * guided, num_speakers=num_speakers, dim=dim, num_layers=text_layers,
            kernel=text_kernel, durations=log_durations if guided else F.softplus, blank=text_dropout > 0,
            conditioning=conditioning, state_width=state_width,
        )  # fmt: skip
        self.aligned = AlignedText(dim) if guided else None
        self.reference = ReferenceEncoder(dim) if speaker_vector else None
        self.start = nn.Parameter(torch.zeros(1, 1, dim))
        tables = 1 if shared_embedding else num_codebooks
        self.code_embedding = nn.Embedding(tables * codebook_size, dim)
        offset = torch.arange(num_codebooks, device="cpu") % tables * codebook_size  # explicit: as in nn/rope.py
        self.register_buffer("code_offset", offset, persistent=False)
        self.rope = Rope(self.head_dim, theta=rope_theta)
        attention = partial(Attention, heads=num_heads, kv_heads=num_heads, causal=True)
        mlp = partial(SwiGLU, hidden=ff_dim)
        self.transformer = stack(num_layers, dim, attention=attention, mlp=mlp, dropout=dropout, norm_eps=norm_eps)
        self.heads = nn.ModuleList(nn.Linear(dim, codebook_size) for _ in range(num_codebooks))
        self.depth = DepthConditioning(dim, num_codebooks, codebook_size) if pattern == "depth" else None
        self.stop = None if guided else nn.Linear(dim, 1)
        initialise_talker(self, start_std=start_std)

    def forward(
        self,
        text: Tensor,
        text_lengths: Tensor,
        codes: Tensor,
        *,
        speakers: Tensor,
        char_times: Tensor | None = None,
        targets: Tensor | None = None,
        states: Tensor | None = None,
    ) -> TalkerOutput:
        """Teacher forcing: text (B, C), codes (B, T, K) -> logits of every frame from the text and the frames before it. Rows
        shorter than T are right-padded with any code.

        speakers: numbers (B) or vectors (B, D), here and in all other methods.

        char_times: (B, C) in frames, not falling; with durations the ends of all units (B, C + 2); default: the predicted ones.
        targets: (B, T, K) true codes, which those of the same frame depend on with pattern=depth; default: `codes`.
        """
        B, T, _ = codes.shape
        read = self.read(text, text_lengths, speakers, char_times, states)
        if self.training and self.text_dropout:
            read = self.without_text(read, speakers, torch.rand(B, device=text.device) < self.text_dropout)
        C = read.prefix.shape[1]
        S = T + self.lag
        told = self._told(read, count=S)
        if self.lag:
            frames = delayed_inputs(self.embed_each(codes), steps=S)
            frames = torch.cat([self.start.expand(B, 1, -1), frames[:, 1:]], dim=1)
        else:
            frames = torch.cat([self.start.expand(B, 1, -1), self._embed_codes(codes[:, :-1])], dim=1)
        frames = frames + told[..., : self.dim]
        positions = torch.cat([read.times[:, :C], torch.arange(S, device=text.device).expand(B, S)], dim=1)
        keep = torch.cat([read.keep[:, :C], read.keep.new_ones(B, S)], dim=1)
        context = AttentionContext(self.rope(positions), PaddingMask(keep))
        hidden = self.transformer(torch.cat([read.prefix, frames], dim=1), context).hidden
        out = self._predict(hidden[:, C:], told, read.durations, codes if targets is None else targets)
        return out if not self.lag else TalkerOutput(by_frame(out.logits), out.stop[:, :T], read.durations)

    def prefill(
        self,
        text: Tensor,
        text_lengths: Tensor,
        *,
        speakers: Tensor,
        cache: TalkerCache,
        codes: Tensor | None = None,
        with_text: bool = True,
        states: Tensor | None = None,
    ) -> TalkerOutput:
        """Read text (B, C), the start frame and the frames spoken so far, codes (B, T, K), into an empty cache -> the logits
        (B, 1, K, E) of the next one. with_text=False: as if the text was not known, only its times."""
        B = len(text)
        T = 0 if codes is None else codes.shape[1]
        read = self.read(text, text_lengths, speakers, states=states)
        if not with_text:
            read = self.without_text(read, speakers)
        C = read.prefix.shape[1]
        cache.text = self._told(read, count=cache.capacity - C)
        cache.mask_padding(torch.cat([read.keep[:, :C], read.keep.new_ones(B, T + 1 + self.lag)], dim=1))
        if self.lag:
            out = delayed_prefill(self, read.prefix, read.times[:, :C], cache=cache, codes=codes)
            return replace(out, durations=read.durations)
        told = cache.text[:, : T + 1]
        positions = torch.cat([read.times[:, :C], torch.arange(T + 1, device=text.device).expand(B, -1)], dim=1)
        frames = self.start.expand(B, 1, -1)
        if codes is not None:
            frames = torch.cat([frames, self._embed_codes(codes)], dim=1)
        x = torch.cat([read.prefix, frames + told[..., : self.dim]], dim=1)
        hidden = self.transformer(x, AttentionContext(self.rope(positions), cache=cache)).hidden
        return self._predict(hidden[:, C + T :], told[:, T:], read.durations)

    def num_frames(
        self, text: Tensor, text_lengths: Tensor, *, speakers: Tensor, states: Tensor | None = None
    ) -> Tensor:
        """Predicted frames (B) of texts (B, C), fractional."""
        read = self.read(text, text_lengths, speakers, states=states)
        return (read.durations * read.keep).cumsum(1)[:, -1]

    def times(self, text: Tensor, text_lengths: Tensor, *, speakers: Tensor, states: Tensor | None = None) -> Tensor:
        """Predicted times (B, C) at which the characters of texts (B, C) end, in frames, fractional, rising."""
        read = self.read(text, text_lengths, speakers, states=states)
        times = (read.durations * read.keep).cumsum(1)
        return times if self.aligned is None else times[:, 1:-1]

    def speaker_vectors(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """The voices (B, D) of clips with codes (B, T, K), of which the first `lengths` (B) frames are real."""
        assert self.reference is not None, "it was built without speaker_vector"
        vectors: Tensor = self.reference(self._embed_codes(codes), lengths)
        return vectors

    def decode_step(self, codes: Tensor, *, frame: int | Tensor, cache: TalkerCache) -> TalkerOutput:
        """codes (B, 1, K) of frame `frame - 1` -> logits of frame `frame`, (B, 1, K, E). frame: (B) if rows are at different
        frames, which needs a cache with a position for each row."""
        if self.lag:
            return delayed_step(self, codes, frame=frame, cache=cache)
        if isinstance(frame, int):
            position = torch.full((1,), float(frame), device=codes.device)
            told = cache.text[:, frame : frame + 1]
        else:
            position = frame[:, None]
            told = cache.text[torch.arange(len(frame), device=frame.device), frame][:, None]
        x = self._embed_codes(codes) + told[..., : self.dim]
        return self._predict(self.transformer(x, AttentionContext(self.rope(position), cache=cache)).hidden, told)

    def new_cache(self, batch_size: int, capacity: int) -> TalkerCache:
        """An empty cache for `capacity` characters and frames."""
        weight = self.start
        return TalkerCache(
            num_layers=self.num_layers,
            batch_size=batch_size,
            num_kv_heads=self.num_heads,
            capacity=capacity + self.lag,
            head_dim=self.head_dim,
            dtype=weight.dtype,
            device=weight.device,
        )

    def read(
        self, text: Tensor, text_lengths: Tensor, speakers: Tensor, times: Tensor | None = None, states: Tensor | None = None
    ) -> TextRead:  # fmt: skip
        """Texts (B, C) as attention and frames read them. times: as `char_times`."""
        if self.aligned is not None:
            text, text_lengths = with_silences(text, text_lengths, first=self.num_symbols)
            states = None if states is None else F.pad(states, (0, 0, 1, 1))  # silences have none
        keep = frame_mask(text_lengths, text.shape[1])
        units, durations = self.text(text, keep, speakers, states)
        if times is None:
            times = (durations if self.aligned is None else durations * keep).cumsum(1)
        prefix = units if self.aligned is None else units[:, :0]
        return TextRead(prefix, units, times, text_lengths, keep, durations)

    def without_text(self, read: TextRead, speakers: Tensor, rows: Tensor | None = None) -> TextRead:
        """The same with all units blank, of the rows (B) bool; None: of all. Times and durations stay those of the text."""
        units = self.text.blank(speakers).expand_as(read.units)
        if rows is not None:
            units = torch.where(rows[:, None, None], units, read.units)
        return replace(read, units=units, prefix=units if self.aligned is None else read.prefix)

    def _told(self, read: TextRead, *, count: int) -> Tensor:
        """What the first `count` frames are told: (B, count, D), with durations (B, count, D + 1)."""
        if self.aligned is None:
            return upsample_text(read.units, read.times, read.lengths, count=count)
        return self.aligned(read.units, read.times, read.lengths, count=count)

    def _embed_codes(self, codes: Tensor) -> Tensor:
        """codes (B, T, K) -> (B, T, D), the sum over codebooks."""
        return self.embed_each(codes).sum(2)

    def embed_each(self, codes: Tensor) -> Tensor:
        """codes (B, T, K) -> (B, T, K, D)."""
        embedded: Tensor = self.code_embedding(codes + self.code_offset)
        return embedded

    def code_logits(self, hidden: Tensor, codes: Tensor | None = None) -> Tensor:
        """hidden (B, T, D) of frames -> logits (B, T, K, E) of their codes. codes: (B, T, K) of the very frames, which the logits
        depend on with pattern=depth; None: those that are most likely, each after the one before it."""
        if self.depth is None:
            return torch.stack([head(hidden) for head in self.heads], dim=2)
        logits: Tensor = self.depth(hidden, self.heads, codes)
        return logits

    def _predict(
        self, hidden: Tensor, told: Tensor, durations: Tensor | None = None, codes: Tensor | None = None
    ) -> TalkerOutput:
        logits = self.code_logits(hidden, codes)
        stop = told[..., -1] if self.stop is None else self.stop(hidden)[..., 0]
        return TalkerOutput(logits=logits, stop=stop, durations=durations)
