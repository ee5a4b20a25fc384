"""Every special token and its id: the one place that tokenizer, chat format, collators and models look them up."""

from typing import Final

UNK: Final = 0
BOS: Final = 1
EOS: Final = 2
PAD: Final = 3
USER: Final = 4
ASSISTANT: Final = 5
SYSTEM: Final = 6
IMAGE: Final = 7
AUDIO: Final = 8

#: Pieces in the order of their ids; SentencePiece makes the first three itself, the others are control symbols.
PIECES: Final[tuple[str, ...]] = (
    "<unk>", "<s>", "</s>", "<pad>", "<user>", "<assistant>", "<system>", "<image>", "<audio>",
)  # fmt: skip

#: Targets with this value take no part in any loss (torch's own default for cross-entropy).
IGNORE: Final = -100
