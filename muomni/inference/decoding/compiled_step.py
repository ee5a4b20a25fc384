"""A decode step as a pure function of tensors that can be compiled as a whole: forward, sample, forward, ... a few times,
without the host in between.

The Thinker's own modules run in it, on a `KVCache` whose position is a tensor and whose buffers are written in place. Attention
covers the first S slots, S being the length of an argument: one compiled step serves every length.

Shapes: B rows, n sampled tokens, S slots, C capacity, L layers, G key-value heads, K head width, D width, V vocabulary.
"""

import torch
from torch import Tensor, nn

from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.decoding.sampling import INVALID_TOKEN, MIN_TEMPERATURE, mask_logits, uniforms
from muomni.models.thinker import Thinker
from muomni.nn.cache import KVCache
from muomni.nn.masks import DenseMask, Mask
from muomni.special_tokens import PIECES


class StepCache(KVCache):
    """The slots of a `KVCache` inside a compiled step."""

    def __init__(
        self,
        keys: list[Tensor],
        values: list[Tensor],
        inputs: list[Tensor],
        *,
        position: Tensor,
        slots: Tensor,
        padding: Tensor,
    ) -> None:
        self.keys, self.values, self.inputs = keys, values, inputs  # type: ignore[assignment]
        self.position, self.slots, self.padding = position, slots, padding  # type: ignore[assignment]

    def mask_for(self, count: int, *, window: int | None) -> tuple[Mask | None, int | None]:
        """Of all S slots, (B, 1, S): True for those that the current token attends to."""
        visible = self.slots <= self.position
        if window is not None:
            visible = visible & (self.slots > self.position - window)
        return DenseMask((visible & (self.slots >= self.padding[:, None]))[:, None]), None

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write key, value (B, G, 1, K) at the position; returns the first S slots, (B, G, S, K)."""
        index, count = self.position.view(1), self.slots.shape[0]  # type: ignore[attr-defined]
        self.keys[layer].index_copy_(2, index, key)
        self.values[layer].index_copy_(2, index, value)
        return self.keys[layer][:, :, :count], self.values[layer][:, :, :count]

    def append_conv_inputs(self, layer: int, x: Tensor, *, count: int) -> Tensor:
        """Store the input x (B, 1, D) of a short convolution; returns it after the `count` inputs before it, (B, count + 1,
        D)."""
        self.inputs[layer].index_copy_(1, self.position.view(1), x)  # type: ignore[attr-defined]
        indices = self.position - torch.arange(count, 0, -1, device=x.device)
        before = self.inputs[layer].index_select(1, indices.clamp_min(0)) * (indices >= 0)[None, :, None]
        return torch.cat((before.to(x.dtype), x), dim=1)

    def advance(self, count: int) -> None:
        """Move the position on by `count` tokens."""
        self.position = self.position + count


class DecodeStep(nn.Module):
    """`count` tokens per call. The sampling options are a tensor argument (`settings_tensor`): one step serves all of them."""

    def __init__(self, thinker: Thinker, *, count: int) -> None:
        super().__init__()
        self.thinker, self.count = thinker, count

    def forward(
        self,
        tokens: Tensor,
        position: Tensor,
        rng_offset: Tensor,
        slots: Tensor,
        padding: Tensor,
        seeds: Tensor,
        settings: Tensor,
        seen: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
        inputs: list[Tensor],
    ) -> Tensor:
        """Tokens (B) -> the next ones (B, n); the last of them is not yet in the cache.

        position (): filled slots. rng_offset (): numbers used of each row's random stream. slots (S): 0, 1, ...; position + n
        <= S < C. padding (B): empty slots on the left. seeds (B). settings: of `settings_tensor`. seen (B, V) bool, for the
        repetition penalty. keys, values: L of (B, G, C, K), inputs: L of (B, C, D): the cache. Cache and `seen` are updated in
        place.
        """
        cache = StepCache(keys, values, inputs, position=position, slots=slots, padding=padding)
        chosen: list[Tensor] = []
        rows = torch.arange(len(tokens), device=tokens.device)
        for index in range(self.count):
            positions = (cache.position - padding)[:, None]
            logits = self.thinker(tokens[:, None], positions=positions, cache=cache, last_only=True).logits[:, -1]
            tokens = sample_by_settings(logits, settings, uniform=uniforms(seeds, rng_offset + index), seen=seen)
            # By index_put_, which the compiler does in place: it copies the whole of `seen` for scatter_ and slices.
            seen.index_put_((rows, tokens), tokens >= len(PIECES))
            chosen.append(tokens)
        return torch.stack(chosen, dim=1)


def settings_tensor(options: GenerationOptions, *, vocab_size: int) -> Tensor:
    """Sampling options as numbers (7) for `sample_by_settings`: 1 to sample (0: greedy), temperature, top-k, top-p, min-p,
    penalty, and 1 if `filter_probs` sorts the tokens."""
    limits = 0 < options.top_k < vocab_size
    return torch.tensor(
        [
            not options.is_greedy,
            max(options.temperature, MIN_TEMPERATURE),
            options.top_k if limits else vocab_size,
            options.top_p,
            options.min_p,
            options.repetition_penalty,
            limits or options.top_p < 1,
        ],
        dtype=torch.float64,
    )


def sample_by_settings(logits: Tensor, settings: Tensor, *, uniform: Tensor, seen: Tensor) -> Tensor:
    """`sampling.sample_tokens` with the options as numbers: logits (B, V), settings (7), uniform (B), seen (B, V) -> ids
    (B)."""
    logits = mask_logits(logits, penalty=settings[5], seen=seen)
    best, ids = logits.max(dim=1)
    greedy = torch.where(best < torch.inf, ids, INVALID_TOKEN)
    if not torch.compiler.is_compiling():
        return _sample(logits, greedy, settings, uniform) if bool(settings[0] > 0) else greedy
    if logits.device.type == "cuda":  # a recorded graph has no branches
        return torch.where(settings[0] > 0, _sample(logits, greedy, settings, uniform), greedy)
    operands = (logits, greedy, settings, uniform)
    chosen: Tensor = torch.cond(settings[0] > 0, _sample, _greedy, operands)
    return chosen


def _greedy(logits: Tensor, greedy: Tensor, settings: Tensor, uniform: Tensor) -> Tensor:
    return greedy.clone()  # a branch of torch.cond may not return an operand


def _sample(logits: Tensor, greedy: Tensor, settings: Tensor, uniform: Tensor) -> Tensor:
    """`sampling.filter_probs` and `sample_tokens`; unsorted probabilities stay in the vocabulary's order."""
    _, temperature, top_k, top_p, min_p, _, is_sorted = settings.unbind()
    scaled = logits / temperature.to(logits.dtype)
    ordered, ids = scaled.sort(dim=1, descending=True)
    position = torch.arange(logits.shape[1], device=logits.device)
    probs = ordered.masked_fill(position >= top_k, -torch.inf).softmax(dim=1)
    probs = probs.masked_fill(probs.cumsum(dim=1) - probs > top_p.to(probs.dtype), 0.0)
    probs = torch.where(is_sorted > 0, probs, scaled.softmax(dim=1))
    probs = probs.masked_fill(probs < min_p.to(probs.dtype) * probs.amax(dim=1, keepdim=True), 0.0)
    cumulative = probs.cumsum(dim=1)
    index = (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(dim=1).clamp_max(logits.shape[1] - 1)
    sampled = torch.where(is_sorted > 0, ids.gather(1, index[:, None])[:, 0], index)
    return torch.where(cumulative[:, -1] > 0, sampled, INVALID_TOKEN)
