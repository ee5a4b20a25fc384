"""A GGUF file -> an export folder.

A file of ours has a SentencePiece tokenizer with our special pieces in their places, which is put together again; every tensor
of a float32 file is as it was, bit for bit. A file with byte-level BPE goes the way of a Hugging Face folder, its
tokenizer.json made of its pieces and merges.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from muomni.checkpoints.export import check_place, save_export
from muomni.frontends.tokenizer import Tokenizer
from muomni.interop.gguf.pre_tokenizers import SPLITS
from muomni.interop.gguf.reading import GGUFModel, read_gguf
from muomni.interop.gguf.vocabulary import CONTROL, UNUSED, USER_DEFINED, Vocabulary
from muomni.interop.hf.folder import CONFIG, WEIGHTS, read_folder
from muomni.interop.hf.importing import import_thinker
from muomni.interop.hf.thinker import from_hf
from muomni.special_tokens import PIECES

TOKENIZER = "tokenizer.model"


def import_gguf(source: Path, out: Path) -> list[str]:
    """Write the export folder `out`, whole or not at all; returns notes. Raises ValueError or FileNotFoundError of one line."""
    check_place(out)
    model = read_gguf(source)
    with tempfile.TemporaryDirectory(prefix="muomni-") as name:
        folder = Path(name)
        (folder / CONFIG).write_text(json.dumps(model.config))
        save_file({key: value.contiguous() for key, value in model.tensors.items()}, folder / WEIGHTS)
        try:
            if model.vocabulary.model == "gpt2":
                for file, content in byte_level_files(model).items():
                    (folder / file).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
                return import_thinker(folder, out)
            if tuple(model.vocabulary.pieces[: len(PIECES)]) != PIECES:
                raise ValueError(
                    "a SentencePiece tokenizer without our special pieces is not read from a GGUF: import the Hugging Face "
                    "folder it was made of"
                )
            (folder / TOKENIZER).write_bytes(sentencepiece_model(model.vocabulary))
            thinker = from_hf(read_folder(folder))
            metadata = {"stage": "thinker", "tokenizer": Tokenizer.load(folder / TOKENIZER).fingerprint()}
            save_export(out, {"thinker": thinker}, files={TOKENIZER: folder / TOKENIZER}, metadata=metadata)
        except ValueError as error:
            raise ValueError(str(error).replace(str(folder), str(source))) from error
    return []


def sentencepiece_model(vocabulary: Vocabulary) -> bytes:
    """A SentencePiece model of byte-pair encoding with these pieces, scores and types, which changes no texts."""
    from sentencepiece import sentencepiece_model_pb2

    proto: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    for piece, score, kind in zip(vocabulary.pieces, vocabulary.scores, vocabulary.types, strict=True):
        proto.pieces.add(piece=piece, score=score, type=kind)
    proto.trainer_spec.model_type = proto.trainer_spec.BPE
    proto.trainer_spec.byte_fallback = True
    proto.trainer_spec.pad_id = PIECES.index("<pad>")
    proto.trainer_spec.pad_piece = "<pad>"
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = vocabulary.space_prefix
    proto.normalizer_spec.remove_extra_whitespaces = False
    return bytes(proto.SerializeToString())


def byte_level_files(model: GGUFModel) -> dict[str, Any]:
    """tokenizer.json and tokenizer_config.json of byte-level BPE. Raises ValueError for a splitting that is not known here."""
    vocabulary = model.vocabulary
    regexes = {name: regex for regex, name in SPLITS.items()}
    last = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    if vocabulary.pre in regexes:
        split = {
            "type": "Split",
            "pattern": {"Regex": regexes[vocabulary.pre]},
            "behavior": "Isolated",
            "invert": False,
        }
        steps = [split, last | {"use_regex": False}]
    elif vocabulary.pre in ("gpt-2", "smollm"):
        digits = [{"type": "Digits", "individual_digits": True}] if vocabulary.pre == "smollm" else []
        steps = [*digits, last | {"use_regex": True}]
    else:
        raise ValueError(
            f"its pre-tokenizer {vocabulary.pre} is not read here, {', '.join((*regexes, 'gpt-2', 'smollm'))} are"
        )
    known = [
        (index, piece, kind)
        for index, (piece, kind) in enumerate(zip(vocabulary.pieces, vocabulary.types, strict=True))
    ]
    added = [
        {"id": index, "content": piece, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": kind == CONTROL}
        for index, piece, kind in known if kind in (CONTROL, USER_DEFINED)
    ]  # fmt: skip
    document = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": vocabulary.pre in ("llama-bpe", "tekken"),
            "vocab": {piece: index for index, piece, kind in known if kind != UNUSED},
            "merges": [merge.split(" ", 1) for merge in vocabulary.merges],
        },
    }  # fmt: skip
    config: dict[str, Any] = {f"{role}_token": vocabulary.pieces[index] for role, index in model.special.items()}
    if model.chat_template is not None:
        config["chat_template"] = model.chat_template
    return {"tokenizer.json": document, "tokenizer_config.json": config}
