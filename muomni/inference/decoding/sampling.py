"""From logits to the next token.

A row's random numbers are a pure function of its seed and of the number of tokens drawn before: the rows of a batch share no
generator, and there is no state to save or to roll back.

Shapes: B rows, V vocabulary, C candidate tokens.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from muomni.inference.decoding.logits_processor import LogitsProcessor
from muomni.inference.decoding.logprobs import LogprobRecorder
from muomni.inference.decoding.options import MAX_SEED, GenerationOptions
from muomni.special_tokens import EOS, PAD, PIECES

MIN_TEMPERATURE = 1e-5
INVALID_TOKEN = PAD  # returned for logits with NaN or Inf; ends an answer and is never part of one
NOT_FINITE = (
    "the model's outputs are NaN or Inf: its weights are broken or too large; train it again, or use another export"
)


def row_seeds(seed: int, prompts: Sequence[bytes]) -> Tensor:
    """The seeds (B) of a batch's rows. Row i has seed + i, so it draws what that seed draws alone; a row that repeats the
    prompt of an earlier row has a hash of seed and row, so that samples of one prompt over neighbouring seeds share no
    stream."""
    seen: set[bytes] = set()
    seeds = []
    for row, prompt in enumerate(prompts):
        digest = hashlib.sha256(f"{seed} {row}".encode()).digest()
        seeds.append(int.from_bytes(digest[:8]) % MAX_SEED if prompt in seen else seed + row)
        seen.add(prompt)
    return torch.tensor(seeds, dtype=torch.long)


def filter_probs(
    logits: Tensor, *, temperature: float, top_k: int, top_p: float, min_p: float
) -> tuple[Tensor, Tensor | None]:
    """logits (B, V) -> unnormalised probabilities (B, C) after temperature, top-k, top-p and min-p, zero for dropped tokens,
    and their ids (B, C) in descending order of probability; ids are None for C = V in the vocabulary's order.

    top-p (Holtzman et al. 2020, arXiv:1904.09751) drops a token if the mass before it exceeds p: the one that crosses p stays.
    min-p (Nguyen et al. 2024, arXiv:2407.01082) drops tokens below min_p times the highest probability.
    """
    scaled, ids = logits.float() / max(temperature, MIN_TEMPERATURE), None
    if 0 < top_k < scaled.shape[1]:
        scaled, ids = scaled.topk(top_k, dim=1)
    elif top_p < 1:
        scaled, ids = scaled.sort(dim=1, descending=True)
    probs = scaled.softmax(dim=1)
    if top_p < 1:
        probs = probs.masked_fill(probs.cumsum(dim=1) - probs > top_p, 0.0)
    if min_p > 0:
        probs = probs.masked_fill(probs < min_p * probs.amax(dim=1, keepdim=True), 0.0)
    return probs, ids


def uniforms(seeds: Tensor, rng_offset: int | Tensor) -> Tensor:
    """seeds (B) int64 -> (B) float32 in [0, 1): number `rng_offset` of each seed's stream, the same on every device.

    SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195), which allows random access.
    """
    x = seeds + (torch.zeros_like(seeds) + rng_offset + 1) * _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return _shifted(x ^ _shifted(x, 31), 40).float() * 2.0**-24


def _signed(constant: int) -> int:
    return constant - 2**64 if constant >= 2**63 else constant


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's own shift of int64 keeps the sign."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def mask_logits(logits: Tensor, *, penalty: float | Tensor, seen: Tensor | None) -> Tensor:
    """logits (B, V) -> float32 with minus infinity for special tokens but EOS, and the repetition penalty on `seen` (B, V)
    bool."""
    logits = logits.float().clone()
    logits[:, :EOS] = -torch.inf
    logits[:, EOS + 1 : len(PIECES)] = -torch.inf
    if seen is not None:
        logits = torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
    return logits


def sample_tokens(
    logits: Tensor, *, options: GenerationOptions, uniform: Tensor | None, seen: Tensor | None = None
) -> Tensor:
    """logits (B, V) -> the next ids (B); INVALID_TOKEN for a row whose logits are not finite. A pure function of tensors.

    uniform: (B) in [0, 1), the random number of each row; None if `options.is_greedy`. seen: (B, V) bool, the tokens that the
    repetition penalty applies to.
    """
    logits = mask_logits(logits, penalty=options.repetition_penalty, seen=seen)
    if options.is_greedy:
        best, greedy = logits.max(dim=1)
        return torch.where(best < torch.inf, greedy, INVALID_TOKEN)
    assert uniform is not None, "sampling needs a random number for each row"
    probs, ids = filter_probs(
        logits, temperature=options.temperature, top_k=options.top_k, top_p=options.top_p, min_p=options.min_p
    )
    return draw(probs, ids, uniform)


def draw(probs: Tensor, ids: Tensor | None, uniform: Tensor) -> Tensor:
    """The ids (B) at uniform (B) in [0, 1) of probabilities as `filter_probs` returns them; INVALID_TOKEN where there is
    none."""
    cumulative = probs.cumsum(dim=1)
    index = (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(dim=1)
    index = index.clamp_max(cumulative.shape[1] - 1)  # out of range if all probabilities are 0
    sampled = index if ids is None else ids.gather(1, index[:, None])[:, 0]
    return torch.where(cumulative[:, -1] > 0, sampled, INVALID_TOKEN)  # also for NaN


class Sampler:
    """Callable: logits (B, V) -> next ids (B), by `options`; keeps track of each row's tokens for the options that need them.

    seen: see `sample_tokens`. processor, logprobs: None unless the options need them.
    rng_offset: numbers already used of the rows' random streams, so that turns of a conversation draw different ones.
    seeds: (B) of the rows; default: seed + row.
    """

    def __init__(
        self,
        options: GenerationOptions,
        *,
        device: torch.device | str,
        rng_offset: int = 0,
        seeds: Tensor | None = None,
    ) -> None:
        self.options, self.device, self.rng_offset = options, device, rng_offset
        self._seeds = None if seeds is None else seeds.to(device)
        self.seen: Tensor | None = None  # B V bool
        self.processor: LogitsProcessor | None = None  # made at the first call, which tells the shapes
        self.logprobs = None if options.logprobs is None else LogprobRecorder(options.logprobs)

    def note(self, ids: Tensor, vocab_size: int) -> None:
        """Mark ids (B, T) as present in their rows, for the repetition penalty; special tokens are exempt."""
        if self.options.repetition_penalty == 1:
            return
        if self.seen is None:
            self.seen = torch.zeros(ids.shape[0], vocab_size, dtype=torch.bool, device=ids.device)
        self.seen.scatter_(1, ids, True)
        self.seen[:, : len(PIECES)] = False

    def seeds(self, rows: int) -> Tensor:
        """The seeds of the rows, (rows) int64."""
        return torch.arange(rows, device=self.device) + self.options.seed if self._seeds is None else self._seeds

    def uniform(self, rows: int) -> Tensor:
        """(rows) in [0, 1): the next number of each row's stream."""
        self.rng_offset += 1
        return uniforms(self.seeds(rows), self.rng_offset - 1)

    def __call__(self, logits: Tensor) -> Tensor:
        """logits (B, V) -> next ids (B)."""
        uniform = None if self.options.is_greedy else self.uniform(len(logits))
        processed = self._process(logits) if self.options.changes_logits else logits
        ids = sample_tokens(processed, options=self.options, uniform=uniform, seen=self.seen)
        self.note(ids[:, None], logits.shape[1])
        if self.processor is not None:
            self.processor.push(ids)
        if self.logprobs is not None:
            self.logprobs.push(logits, ids)
        return ids

    def _process(self, logits: Tensor) -> Tensor:
        if self.processor is None:
            B, V = logits.shape
            self.processor = LogitsProcessor(self.options, rows=B, vocab_size=V, device=logits.device)
        return self.processor(logits)
