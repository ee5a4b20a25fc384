"""A decode step as a function of tensors, which a compiler can take whole: it reads a token, chooses the next, and so on a
few times, without the host in between.

The Thinker's own modules run in it, on a cache that looks to them like any other, but whose position is a tensor and whose
buffers are written in place. Attention sees the first S slots, S being the length of an argument: one compiled step serves
every length.

Shapes: B rows, n tokens that are chosen, S slots, C capacity, L layers, G key-value heads, K head width, D width, V vocabulary.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from muomni.inference.sampling import COLDEST, GenerationOptions, choose, uniforms
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
        self.ragged = True
        self._look()

    def _look(self) -> None:
        seen = self.slots <= self.position
        if self.window is not None:
            seen = seen & (self.slots > self.position - self.window)
        self.keep = (seen & (self.slots >= self.padding[:, None]))[:, None]

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write key, value (B, G, 1, K) at the position; give the first S slots, (B, G, S, K)."""
        place, count = self.position.view(1), self.slots.shape[0]  # type: ignore[attr-defined]
        self.keys[layer].index_copy_(2, place, key)
        self.values[layer].index_copy_(2, place, value)
        return self.keys[layer][:, :, :count], self.values[layer][:, :, :count]

    def behind(self, layer: int, x: Tensor, *, count: int) -> Tensor:
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
    """`count` tokens a call, by the Thinker and by `options`, whose temperature and seed are arguments instead."""

    def __init__(self, thinker: Thinker, *, options: GenerationOptions, count: int) -> None:
        super().__init__()
        self.thinker, self.count = thinker, count
        self.options = fixed_options(options)

    def forward(
        self,
        tokens: Tensor,
        position: Tensor,
        drawn: Tensor,
        slots: Tensor,
        padding: Tensor,
        seeds: Tensor,
        temperature: Tensor,
        seen: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
        inputs: list[Tensor],
    ) -> Tensor:
        """Read tokens (B), choose, read that, and so on -> (B, n); the last of them is not read.

        position (): slots that are filled. drawn (): numbers used of each row's stream. slots (S): 0, 1, ...; S is at least
        position + n, and less than C. padding (B): slots on the left that hold nothing. seeds (B). temperature (): above 0.
        seen (B, V) bool, for the repetition penalty, (B, 0) without one. keys, values: L of (B, G, C, K), inputs: L of
        (B, C, D); the cache, written in place as `seen` is.
        """
        window = self.thinker.window
        cache = StepCache(keys, values, inputs, position=position, slots=slots, padding=padding, window=window)
        chosen: list[Tensor] = []
        for place in range(self.count):
            positions = (cache.position - padding)[:, None]
            logits = self.thinker(tokens[:, None], positions=positions, cache=cache, last_only=True).logits[:, -1]
            tokens = self._choose(logits, drawn + place, seeds, temperature, seen)
            chosen.append(tokens)
        return torch.stack(chosen, dim=1)

    def _choose(self, logits: Tensor, drawn: Tensor, seeds: Tensor, temperature: Tensor, seen: Tensor) -> Tensor:
        options, penal = self.options, self.options.repetition_penalty != 1
        uniform = None
        if not options.is_greedy:
            uniform = uniforms(seeds, drawn)
            logits = logits / temperature  # a penalty multiplies: it may as well come behind
        ids = choose(logits, options=options, uniform=uniform, seen=seen if penal else None)
        if penal:
            seen.scatter_(1, ids[:, None], True)
            seen[:, : len(PIECES)] = False
        return ids


def fixed_options(options: GenerationOptions) -> GenerationOptions:
    """What of the options is built into a step: equal options share one. Temperature and seed are arguments of it."""
    if options.is_greedy:
        options = replace(options, top_k=0, top_p=1.0, min_p=0.0)
    return replace(options, temperature=0.0 if options.is_greedy else 1.0, seed=0, max_new_tokens=None, stop=())


def temperature_of(options: GenerationOptions) -> float:
    """What a step divides logits by."""
    return max(options.temperature, COLDEST)
