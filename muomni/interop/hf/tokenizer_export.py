"""A tokenizer of ours as the files that transformers reads: tokenizer.json (a fast tokenizer), tokenizer_config.json with the
chat template, special_tokens_map.json. One that came from there leaves as it came.

A SentencePiece model of byte-pair encoding merges the best pair first, by the score of the piece that it makes; `tokenizers`
has a list of pairs, best first. So each piece gives all pairs that make it, in the order of the pieces' scores, which is what
transformers' own converter of Llama does. Ids, special tokens, bytes and leading spaces stay; one text differs: U+2581 is a space
there, here a character. A written-out special token in a text is one there (`split_special_tokens=True` changes that).
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from muomni.frontends.hf_tokenizer import HFTokenizerModel
from muomni.frontends.sentence_piece import META, SentencePieceModel
from muomni.frontends.special_pieces import parse_model
from muomni.frontends.tokenizer import Tokenizer
from muomni.interop.hf.chat_template import NATIVE_TEMPLATE
from muomni.special_tokens import BOS, EOS, PAD, PIECES, UNK

ROLES = {"unk": UNK, "bos": BOS, "eos": EOS, "pad": PAD}
BPE, CHARACTERS = 2, 4  # SentencePiece's numbers of model types


def tokenizer_files(tokenizer: Tokenizer, *, max_length: int) -> dict[str, str]:
    """Name -> content. max_length: tokens of the model's context.

    Raises ValueError for a tokenizer that `tokenizers` cannot have.
    """
    if isinstance(tokenizer.model, HFTokenizerModel):
        return dict(tokenizer.model.files)
    assert isinstance(tokenizer.model, SentencePieceModel)
    roles = {f"{role}_token": PIECES[index] for role, index in ROLES.items()}
    others = [piece for index, piece in enumerate(PIECES) if index not in ROLES.values()]
    config = roles | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": others,
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
        "chat_template": NATIVE_TEMPLATE,
    }
    return {
        "tokenizer.json": json.dumps(_document(tokenizer.content, form=tokenizer.form), ensure_ascii=False, indent=1),
        "tokenizer_config.json": json.dumps(config, ensure_ascii=False, indent=1),
        "special_tokens_map.json": json.dumps(roles | {"additional_special_tokens": others}, indent=1),
    }


def _document(content: bytes, *, form: str | None) -> dict[str, Any]:
    """tokenizer.json of a SentencePiece model."""
    proto = parse_model(content)
    _check(proto, form=form)
    prefix = bool(proto.normalizer_spec.add_dummy_prefix)
    special = [
        {"id": index, "content": piece, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for index, piece in enumerate(PIECES)
    ]  # fmt: skip
    before: list[dict[str, Any]] = [{"type": "Lowercase"}] if form == "lower" else []
    before += [{"type": "Prepend", "prepend": META}] * prefix
    after: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": META}, "content": " "}]
    after += [{"type": "ByteFallback"}, {"type": "Fuse"}]
    after += [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] * prefix
    # Special pieces may have other names in a tokenizer that was given; here they have those of the chat template.
    names = [*PIECES, *(piece.piece for piece in proto.pieces[len(PIECES) :])]
    vocabulary = {name: index for index, name in enumerate(names)}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [*before, {"type": "Replace", "pattern": {"String": " "}, "content": META}],
        },
        "pre_tokenizer": None,
        "post_processor": _begin(),
        "decoder": {"type": "Sequence", "decoders": after},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": PIECES[UNK], "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": bool(proto.trainer_spec.byte_fallback),
            "ignore_merges": False, "vocab": vocabulary, "merges": _merges(proto),
        },
    }  # fmt: skip


def _check(proto: Any, *, form: str | None) -> None:
    """Raise ValueError for what has no counterpart."""
    normalizer, trainer = proto.normalizer_spec, proto.trainer_spec
    if trainer.model_type not in (BPE, CHARACTERS):
        raise ValueError("the tokenizer is a SentencePiece model of another type than bpe or char: it is not exported")
    if normalizer.precompiled_charsmap or normalizer.remove_extra_whitespaces or trainer.treat_whitespace_as_suffix:
        raise ValueError(
            f"the tokenizer changes texts (normalization_rule_name={normalizer.name}, "
            f"remove_extra_whitespaces={normalizer.remove_extra_whitespaces}): it is not exported"
        )
    if form not in (None, "as_is", "lower"):
        raise ValueError(f"the model reads texts in the form text={form}, which a tokenizer.json cannot have")


def _merges(proto: Any) -> list[list[str]]:
    """Pairs of pieces that make a piece, best first."""
    if proto.trainer_spec.model_type == CHARACTERS:
        return []
    score = {piece.piece: piece.score for piece in proto.pieces if piece.type == piece.NORMAL}
    order = {piece: index for index, piece in enumerate(score)}
    pairs: Iterable[tuple[float, int, int, str, str]] = (
        (-score[piece], order[piece[:cut]], order[piece[cut:]], piece[:cut], piece[cut:])
        for piece in score
        for cut in range(1, len(piece))
        if piece[:cut] in score and piece[cut:] in score
    )
    return [[left, right] for _, _, _, left, right in sorted(pairs)]


def _begin() -> Mapping[str, Any]:
    """Texts begin with BOS."""
    special = {"SpecialToken": {"id": PIECES[BOS], "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing", "single": [special, first], "pair": [special, first, special, second],
        "special_tokens": {PIECES[BOS]: {"id": PIECES[BOS], "ids": [BOS], "tokens": [PIECES[BOS]]}},
    }  # fmt: skip
