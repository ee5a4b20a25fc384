"""A decode step as a function of tensors, which a compiler can take whole: it reads a token, chooses the next, and so on a
few times, without the host in between.

The Thinker's own modules run in it, on a cache that looks to them like any other, but whose position is a tensor and whose
buffers are written in place. Attention sees the first S slots, S being the length of an argument: one compiled step serves
every length.

Shapes: B rows, n tokens that are chosen, S slots, C capacity, L layers, G key-value heads, K head width, D width, V vocabulary.
"""

import torch
from torch import Tensor, nn

from muomni.inference.decoding.sampling import BROKEN, COLDEST, GenerationOptions, admissible, uniforms
from muomni.models.thinker import Thinker
from muomni.nn.cache import KVCache
from muomni.special_tokens import PIECES


class StepCache(KVCache):
    """The slots of a `KVCache` inside a compiled step. `keep` (B, 1, S) says what the token at the position sees."""

    def __init__(
        self,
        keys: list[Tensor],
        values: list[Tensor],
        inputs: list[Tensor],
        *,
        position: Tensor,
        slots: Tensor,
        padding: Tensor,
        window: int | None,
    ) -> None:
        self.keys, self.values, self.inputs = keys, values, inputs  # type: ignore[assignment]
        self.position, self.slots = position, slots  # type: ignore[assignment]
        self.padding, self.window = padding, window
        self.left_padded = True
        self._look()

    def _look(self) -> None:
        seen = self.slots <= self.position
        if self.window is not None:
            seen = seen & (self.slots > self.position - self.window)
        self.keep = (seen & (self.slots >= self.padding[:, None]))[:, None]

    def length_with(self, count: int) -> int:
        """The number S of slots, wherever the position is."""
        return self.slots.shape[0]

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write key, value (B, G, 1, K) at the position; give the first S slots, (B, G, S, K)."""
        place, count = self.position.view(1), self.slots.shape[0]  # type: ignore[attr-defined]
        self.keys[layer].index_copy_(2, place, key)
        self.values[layer].index_copy_(2, place, value)
        return self.keys[layer][:, :, :count], self.values[layer][:, :, :count]

    def append_conv_inputs(self, layer: int, x: Tensor, *, count: int) -> Tensor:
        """Keep the input x (B, 1, D) of a short convolution; give it with the `count` before it, (B, count + 1, D)."""
        self.inputs[layer].index_copy_(1, self.position.view(1), x)  # type: ignore[attr-defined]
        places = self.position - torch.arange(count, 0, -1, device=x.device)
        before = self.inputs[layer].index_select(1, places.clamp_min(0)) * (places >= 0)[None, :, None]
        return torch.cat((before.to(x.dtype), x), dim=1)

    def advance(self, count: int) -> None:
        """Count `count` more tokens as read."""
        self.position = self.position + count
        self._look()


class DecodeStep(nn.Module):
    """`count` tokens a call, by the Thinker and by `settings`, which are an argument: one step serves all ways of choosing."""

    def __init__(self, thinker: Thinker, *, count: int) -> None:
        super().__init__()
        self.thinker, self.count = thinker, count

    def forward(
        self,
        tokens: Tensor,
        position: Tensor,
        drawn: Tensor,
        slots: Tensor,
        padding: Tensor,
        seeds: Tensor,
        settings: Tensor,
        seen: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
        inputs: list[Tensor],
    ) -> Tensor:
        """Read tokens (B), choose, read that, and so on -> (B, n); the last of them is not read.

        position (): slots that are filled. drawn (): numbers used of each row's stream. slots (S): 0, 1, ...; S is at least
        position + n, and less than C. padding (B): slots on the left that hold nothing. seeds (B). settings: of `settings_of`.
        seen (B, V) bool, for the repetition penalty. keys, values: L of (B, G, C, K), inputs: L of (B, C, D); the cache, written
        in place as `seen` is.
        """
        window = self.thinker.window
        cache = StepCache(keys, values, inputs, position=position, slots=slots, padding=padding, window=window)
        chosen: list[Tensor] = []
        for place in range(self.count):
            positions = (cache.position - padding)[:, None]
            logits = self.thinker(tokens[:, None], positions=positions, cache=cache, last_only=True).logits[:, -1]
            tokens = choose_by(logits, settings, uniform=uniforms(seeds, drawn + place), seen=seen)
            seen.scatter_(1, tokens[:, None], True)
            seen[:, : len(PIECES)] = False
            chosen.append(tokens)
        return torch.stack(chosen, dim=1)


def settings_of(options: GenerationOptions, *, vocab_size: int) -> Tensor:
    """How tokens are chosen, as numbers (7) for `choose_by`: whether by chance, temperature, top-k, top-p, min-p, penalty, and
    whether a short list is drawn from, likeliest first."""
    limits = 0 < options.top_k < vocab_size
    return torch.tensor(
        [
            not options.is_greedy,
            max(options.temperature, COLDEST),
            options.top_k if limits else vocab_size,
            options.top_p,
            options.min_p,
            options.repetition_penalty,
            limits or options.top_p < 1,
        ],
        dtype=torch.float64,
    )


def choose_by(logits: Tensor, settings: Tensor, *, uniform: Tensor, seen: Tensor) -> Tensor:
    """`sampling.choose` with the options as numbers: logits (B, V), settings (7), uniform (B), seen (B, V) -> ids (B)."""
    logits = admissible(logits, penalty=settings[5], seen=seen)
    best, ids = logits.max(dim=1)
    likeliest = torch.where(best < torch.inf, ids, BROKEN)
    if not torch.compiler.is_compiling():
        return _drawn(logits, likeliest, settings, uniform) if bool(settings[0] > 0) else likeliest
    if logits.device.type == "cuda":  # a recorded graph has no branches
        return torch.where(settings[0] > 0, _drawn(logits, likeliest, settings, uniform), likeliest)
    operands = (logits, likeliest, settings, uniform)
    chosen: Tensor = torch.cond(settings[0] > 0, _drawn, _likeliest, operands)
    return chosen


def _likeliest(logits: Tensor, likeliest: Tensor, settings: Tensor, uniform: Tensor) -> Tensor:
    return likeliest.clone()  # a branch may not give an operand back


def _drawn(logits: Tensor, likeliest: Tensor, settings: Tensor, uniform: Tensor) -> Tensor:
    """By chance, as `sampling.shortlist` and `choose`: without a short list in the vocabulary's order."""
    _, temperature, top_k, top_p, min_p, _, short = settings.unbind()
    scaled = logits / temperature.to(logits.dtype)
    ordered, ids = scaled.sort(dim=1, descending=True)
    rank = torch.arange(logits.shape[1], device=logits.device)
    share = ordered.masked_fill(rank >= top_k, -torch.inf).softmax(dim=1)
    share = share.masked_fill(share.cumsum(dim=1) - share > top_p.to(share.dtype), 0.0)
    share = torch.where(short > 0, share, scaled.softmax(dim=1))
    share = share.masked_fill(share < min_p.to(share.dtype) * share.amax(dim=1, keepdim=True), 0.0)
    mass = share.cumsum(dim=1)
    place = (mass <= uniform[:, None] * mass[:, -1:]).sum(dim=1).clamp_max(logits.shape[1] - 1)
    drawn = torch.where(short > 0, ids.gather(1, place[:, None])[:, 0], place)
    return torch.where(mass[:, -1] > 0, drawn, BROKEN)
