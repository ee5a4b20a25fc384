"""Options that change the logits by the answer so far: bias, frequency and presence penalties, repeated n-grams, minimum length.

Applied to the model's logits before the repetition penalty, temperature and filters of `sampling.sample_tokens`. An answer's
tokens are kept on the device: nothing here syncs with it.

Shapes: B rows (answers, or beams), V vocabulary, t tokens so far, n order of the n-grams.
"""

import torch
from torch import Tensor

from muomni.inference.decoding.options import GenerationOptions
from muomni.special_tokens import EOS, PIECES


class LogitsProcessor:
    """Callable: logits (B, V) of the next tokens -> changed logits; `push` the tokens that were chosen.

    Raises InvalidOption for a bias of a token that the vocabulary does not have.
    """

    def __init__(self, options: GenerationOptions, *, rows: int, vocab_size: int, device: torch.device | str) -> None:
        options.check_vocabulary(vocab_size)
        self.options, self.count = options, 0
        self.tokens = torch.zeros(rows, 0, dtype=torch.long, device=device)  # B t
        counted = options.frequency_penalty or options.presence_penalty
        self.counts = torch.zeros(rows, vocab_size, device=device) if counted else None  # B V, of generated tokens
        self.bias: Tensor | None = None  # V
        if options.logit_bias:
            bias = torch.zeros(vocab_size)
            bias[list(options.logit_bias)] = torch.tensor(list(options.logit_bias.values()))
            self.bias = bias.to(device)

    def __call__(self, logits: Tensor) -> Tensor:
        """logits (B, V) -> float32 (B, V); the argument stays as it is."""
        options, logits = self.options, logits.float()
        if self.bias is not None:
            logits = logits + self.bias
        if self.counts is not None:  # https://platform.openai.com/docs/api-reference/chat/create
            penalty = options.frequency_penalty * self.counts + options.presence_penalty * (self.counts > 0)
            logits = logits - penalty
        if 0 < options.no_repeat_ngram <= self.count:
            logits = logits.masked_fill(
                repeating(self.tokens, n=options.no_repeat_ngram, vocab_size=logits.shape[1]), -torch.inf
            )
        if self.count < options.min_new_tokens:
            logits = logits.clone()
            alone = logits[:, len(PIECES) :].amax(dim=1) == -torch.inf  # every other token would repeat an n-gram
            logits[:, EOS] = torch.where(alone, logits[:, EOS], -torch.inf)
        return logits

    def push(self, ids: Tensor) -> None:
        """Append the chosen ids (B) to the answers."""
        self.count += 1
        if self.options.no_repeat_ngram:
            self.tokens = torch.cat([self.tokens, ids[:, None]], dim=1)
        if self.counts is not None:
            self.counts.scatter_add_(1, ids[:, None], torch.ones_like(ids[:, None], dtype=self.counts.dtype))

    def reorder(self, rows: Tensor) -> None:
        """Keep the rows of these indices, as `KVCache.reorder`."""
        self.tokens = self.tokens[rows]
        self.counts = None if self.counts is None else self.counts[rows]


def repeating(tokens: Tensor, *, n: int, vocab_size: int) -> Tensor:
    """tokens (B, t), t >= n -> (B, V) bool: True for tokens that would complete an n-gram that the row already holds."""
    B, t = tokens.shape
    followers = tokens[:, n - 1 :]  # B t-n+1, the last token of each n-gram
    windows = tokens.unfold(1, n, 1)[..., : n - 1]  # B t-n+1 n-1, what precedes it
    match = (windows == tokens[:, None, t - n + 1 :]).all(dim=-1)
    hits = torch.zeros(B, vocab_size, device=tokens.device)
    return hits.scatter_add_(1, followers, match.to(hits.dtype)) > 0
