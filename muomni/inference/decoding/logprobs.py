"""Log-probabilities of generated tokens, and of the most likely alternatives.

Shapes: B rows, V vocabulary, T tokens, N alternatives a token.
"""

import torch
from torch import Tensor

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.answer import TokenLogprob


class LogprobRecorder:
    """Collects a batch's log-probabilities step by step, on the device. top: N."""

    def __init__(self, top: int) -> None:
        self.top = top
        self.steps: list[
            tuple[Tensor, Tensor, Tensor, Tensor]
        ] = []  # ids (B), their values (B), top ids and values (B, N)

    def push(self, logits: Tensor, ids: Tensor) -> None:
        """The model's logits (B, V), and the ids (B) that were chosen."""
        log_probs = logits.float().log_softmax(dim=1)
        values, best = log_probs.topk(min(self.top, log_probs.shape[1]), dim=1)
        self.steps.append((ids, log_probs.gather(1, ids[:, None])[:, 0], best, values))

    def row(self, tokenizer: Tokenizer, row: int, *, begin: int, end: int) -> list[TokenLogprob]:
        """The tokens begin..end of a row. Syncs with the device."""
        if begin >= end:
            return []
        columns = [torch.stack([step[column][row] for step in self.steps[begin:end]]).tolist() for column in range(4)]
        return [
            TokenLogprob(
                id=token,
                text=token_text(tokenizer, token, first=index == 0),
                logprob=value,
                top=[
                    (other, token_text(tokenizer, other, first=index == 0), likely)
                    for other, likely in zip(best, values, strict=True)
                ],
            )
            for index, (token, value, best, values) in enumerate(zip(*columns, strict=True), start=begin)
        ]


def token_bytes(tokenizer: Tokenizer, token: int, *, first: bool) -> bytes:
    """The UTF-8 bytes that a token adds to an answer. first: at its beginning, where a piece's space is left out. A special
    token has its name, such as `</s>`."""
    if tokenizer.is_special(token):
        return tokenizer.piece(token).encode()
    return tokenizer.token_bytes(token, first=first)


def token_text(tokenizer: Tokenizer, token: int, *, first: bool) -> str:
    """`token_bytes` as text; U+FFFD for what is a part of a character only."""
    return token_bytes(tokenizer, token, first=first).decode(errors="replace")
