"""Tokenizers as llama.cpp keeps them: pieces, scores and types of SentencePiece ("llama"), or pieces and merges of byte-level
BPE ("gpt2"), whose way of splitting a text into words llama.cpp knows by name alone (pre_tokenizers.py).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from muomni.interop.gguf.pre_tokenizers import pre_tokenizer, puts_space
from muomni.special_tokens import PIECES

#: llama.cpp's types of tokens (gguf.TokenType).
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
BPE = 2  # of SentencePiece's TrainerSpec.ModelType
LOWEST = -1e4  # score of pieces that no pair is joined to
MODEL_TYPES = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """model: llama or gpt2. pre: llama.cpp's name of the splitting, of gpt2. scores: of llama. merges: of gpt2, by rank."""

    model: str
    pieces: list[str]
    types: list[int]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    pre: str = "default"
    space_prefix: bool = True

    def fitted(self, rows: int) -> "Vocabulary":
        """A piece for each row of the model's embedding: unused ones are added, special ones without a row left out. Raises
        ValueError where a piece of text has no row."""
        spare, surplus = range(len(self.pieces), rows), self.types[rows:]
        if any(each not in (CONTROL, UNUSED) for each in surplus):
            raise ValueError(f"the tokenizer has {len(self.pieces)} pieces, the embedding {rows} rows: two models")
        return replace(
            self,
            pieces=self.pieces[:rows] + [f"[PAD{index}]" for index in spare],
            types=self.types[:rows] + [UNUSED for _ in spare],
            scores=self.scores[:rows] + [LOWEST for _ in spare if self.scores],
        )


def of_sentencepiece(model: bytes) -> Vocabulary:
    """A model of ours, with special pieces under our names.

    Raises ValueError naming what of the model llama.cpp's SentencePiece has not."""
    from sentencepiece import sentencepiece_model_pb2

    proto: Any = sentencepiece_model_pb2.ModelProto.FromString(model)  # type: ignore[attr-defined]
    if proto.trainer_spec.model_type != BPE:
        found = MODEL_TYPES.get(proto.trainer_spec.model_type, "unknown")
        raise ValueError(f"tokenizer.model is a {found} model of SentencePiece: llama.cpp reads those of type bpe")
    if proto.normalizer_spec.precompiled_charsmap:
        raise ValueError(
            f"tokenizer.model rewrites texts ({proto.normalizer_spec.name}), which llama.cpp does not: train a tokenizer with "
            "the rule identity"
        )
    types = [int(piece.type) for piece in proto.pieces]  # SentencePiece's numbers are llama.cpp's
    if BYTE not in types:
        raise ValueError(
            "tokenizer.model has no pieces for bytes, without which llama.cpp ends at an unknown character: train one "
            "with byte_fallback"
        )
    return Vocabulary(
        model="llama", pieces=[*PIECES, *(piece.piece for piece in proto.pieces[len(PIECES) :])], types=types,
        scores=[piece.score for piece in proto.pieces], space_prefix=bool(proto.normalizer_spec.add_dummy_prefix),
    )  # fmt: skip


def of_tokenizer_json(document: dict[str, Any]) -> Vocabulary:
    """The content of a tokenizer.json. Raises ValueError naming what of it llama.cpp has not."""
    model = document.get("model") or {}
    if model.get("type", "BPE") != "BPE":
        raise ValueError(f"tokenizer.json: its model is {model.get('type')}: llama.cpp reads those of type BPE")
    pieces: dict[int, str] = {index: piece for piece, index in model["vocab"].items()}
    added = {int(token["id"]): token for token in document.get("added_tokens") or ()}
    pieces |= {index: token["content"] for index, token in added.items()}
    merges = [tuple(each.split(" ", 1)) if isinstance(each, str) else tuple(each) for each in model["merges"]]
    ids = range(max(pieces) + 1)
    names = [pieces.get(index, f"[PAD{index}]") for index in ids]
    types = [_type_of_added(added.get(index), index in pieces) for index in ids]
    if not model.get("byte_fallback"):
        return Vocabulary(
            model="gpt2", pre=pre_tokenizer(document), pieces=names, types=types, space_prefix=False,
            merges=[" ".join(pair) for pair in merges],
        )  # fmt: skip
    scores = _scores(merges, model["vocab"])
    types = [_type_by_name(piece, found, model.get("unk_token")) for piece, found in zip(names, types, strict=True)]
    return Vocabulary(
        model="llama", space_prefix=puts_space(document), scores=[scores.get(each, LOWEST) for each in names],
        pieces=names, types=types,
    )  # fmt: skip


def _type_of_added(token: dict[str, Any] | None, is_there: bool) -> int:
    if token is None:
        return NORMAL if is_there else UNUSED
    return CONTROL if token.get("special") else USER_DEFINED


def _type_by_name(piece: str, found: int, unk: str | None) -> int:
    if piece == unk:
        return UNKNOWN
    return BYTE if BYTE_PIECE.fullmatch(piece) else found


def _scores(merges: list[tuple[str, ...]], vocab: Mapping[str, int]) -> dict[str, float]:
    """Scores by which SentencePiece joins the pairs that the merges join, in their order. It joins any two pieces whose whole is
    a piece: ValueError where the merges lack one of these pairs, since texts would be cut otherwise."""
    scores: dict[str, float] = {}
    for rank, pair in enumerate(merges):
        scores.setdefault("".join(pair), -float(rank))
    known = set(merges)
    for piece in scores:
        for cut in range(1, len(piece)):
            pair = piece[:cut], piece[cut:]
            if pair not in known and pair[0] in vocab and pair[1] in vocab:
                raise ValueError(
                    f"tokenizer.json: pieces with bytes for the rest, but no merge of {pair[0]!r} and {pair[1]!r}: it was not "
                    "made by SentencePiece, whose way llama.cpp has"
                )
    return scores
