"""What a Thinker makes of a text that will be spoken: its last states, of each character that of the token it belongs to.

The Thinker reads each sentence alone, as a text and in the words that are spoken, not in a conversation. So any text can be
spoken, also one that nobody has generated, and the same sentence has the same states alone, in a batch, and as a stream.

Legend: B texts, T tokens, C characters, H width of the Thinker.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from muomni.checkpoints.export import Export, load_export
from muomni.frontends.spoken_symbols import symbol_letters
from muomni.frontends.token_spans import encode_with_spans
from muomni.frontends.tokenizer import Tokenizer
from muomni.models.thinker import Thinker

#: The module of an export with the Thinker whose states its Talker is told: the one that it was trained with.
MODULE = "talker_thinker"


class TextStates:
    """Callable: texts in words -> states. Its Thinker learns nothing.

    Args:
        metadata: of the Thinker's export. folder: of the export, for messages.
    """

    def __init__(
        self, thinker: Thinker, tokenizer: Tokenizer, *, metadata: Mapping[str, Any], folder: Path | str
    ) -> None:
        self.thinker = thinker.requires_grad_(False).eval()
        # Texts have their form already, from before they were put into words.
        self.tokenizer = tokenizer.with_form(None)
        self.metadata, self.folder = metadata, Path(folder)
        self.tokenizer_path: Path | None = None

    @classmethod
    def from_export(cls, folder: Path | str) -> Self:
        """Of the Thinker in an export. Raises FileNotFoundError or ValueError naming it."""
        export = load_export(folder, ["thinker"])
        found = cls(
            cast(Thinker, export.modules["thinker"]),
            Tokenizer.load(export.tokenizer_path),
            metadata=export.metadata,
            folder=folder,
        )
        found.tokenizer_path = export.tokenizer_path
        return found

    def on(self, device: torch.device) -> Self:
        """The same, there."""
        self.thinker.to(device)
        return self

    def num_tokens(self, text: str) -> int:
        """Tokens that the Thinker reads of a text."""
        return len(encode_with_spans(self.tokenizer, text)[0])

    def fits(self, text: str) -> bool:
        """Whether the Thinker can read a text at once."""
        return self.num_tokens(text) <= self.thinker.max_length

    @torch.no_grad()
    def __call__(self, texts: list[str], *, reads: str) -> Tensor:
        """States (B, C, H), float32, of what is read of each text (spoken_symbols.py), zeros after it.

        Raises ValueError for a text that is too long for the Thinker.
        """
        device = self.thinker.embedding.weight.device
        rows = [encode_with_spans(self.tokenizer, text) for text in texts]
        for text, (ids, _) in zip(texts, rows, strict=True):
            if len(ids) > self.thinker.max_length:
                raise ValueError(
                    f"{text[:40]!r}...: {len(ids)} tokens, the Thinker whose states the Talker is told reads "
                    f"{self.thinker.max_length} at once: give shorter sentences"
                )
        padded = pad_sequence([torch.tensor(ids) for ids, _ in rows], batch_first=True).to(device)  # causal: not read
        with torch.autocast(device.type, enabled=False):  # training computes what inference does
            states = self.thinker.forward_hidden(self.thinker.embedding(padded)).hidden.float()
        read = [
            states[row, [tokens[letter] for letter in symbol_letters(text, reads)]]
            for row, (text, (_, tokens)) in enumerate(zip(texts, rows, strict=True))
        ]
        return pad_sequence(read, batch_first=True)


def states_of_export(export: Export) -> TextStates:
    """What tells the Talker of an export the states of the Thinker in it. Raises ValueError as `states_of`."""
    tokenizer = None if export.tokenizer is None else Tokenizer(export.tokenizer)
    return states_of(export.modules, tokenizer, metadata=export.metadata, where=export.folder)


def states_of(
    modules: Mapping[str, nn.Module], tokenizer: Tokenizer | None, *, metadata: Mapping[str, Any], where: Path | str
) -> TextStates:
    """The same by its modules and tokenizer. Raises ValueError where the Thinker has no tokenizer."""
    if tokenizer is None:
        raise ValueError(f"{where}: no tokenizer, by which its Talker's Thinker reads; it is damaged, train it again")
    return TextStates(cast(Thinker, modules[MODULE]), tokenizer, metadata=metadata, folder=where)
