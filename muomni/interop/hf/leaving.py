"""What of an export leaves for other tools: its Thinker with its tokenizer, in transformers' terms. All formats (Hugging Face,
MLX, GGUF) are written from this.

The rest of an omni model (encoders, projectors, Talker, codec) has no class elsewhere and stays; a note names it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from muomni.checkpoints.export import Export, load_export, read_description
from muomni.checkpoints.single_file import read_export
from muomni.frontends.hf_tokenizer import HFTokenizerModel, unpack
from muomni.frontends.text_form import form_of
from muomni.frontends.tokenizer import Tokenizer
from muomni.interop.hf.chat_template import NATIVE_TEMPLATE
from muomni.interop.hf.thinker_out import to_transformers
from muomni.interop.hf.tokenizer_extension import extended
from muomni.models.thinker import Thinker
from muomni.special_tokens import BOS, EOS, PAD, PIECES, SYSTEM, UNK, USER

THINKER = "thinker"


@dataclass(frozen=True, kw_only=True)
class Leaving:
    """config: of config.json. tensors: by transformers' names. special: bos, eos, unk, pad -> id. suppressed: ids that our own
    decoding never chooses. staying: the other modules of the export. notes: for the user."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    tokenizer: Tokenizer
    metadata: dict[str, Any]
    special: Mapping[str, int]
    suppressed: Sequence[int]
    chat_template: str | None
    staying: Sequence[str]
    parameters: int
    notes: list[str] = field(default_factory=list)


def window_within_context(config: Mapping[str, Any]) -> int | None:
    """The window of a configuration whose texts may be longer than it; None: attention reaches all tokens."""
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    return window if window and window < config["max_position_embeddings"] else None


def read_leaving(path: Path) -> Leaving:
    """Read an export (a folder, or a single file). Raises ValueError or FileNotFoundError of one line: no export, no Thinker, no
    tokenizer, or an option of the Thinker that no class of transformers has."""
    export, names = _thinker_alone(path)
    if THINKER not in names:
        raise ValueError(f"{path}: no Thinker in this export, only {', '.join(names)}: what leaves is a language model")
    if export.tokenizer is None:
        raise ValueError(f"{path}: no tokenizer in this export, without which a Thinker reads numbers: export it again")
    thinker = cast(Thinker, export.modules[THINKER])
    try:
        tokenizer = Tokenizer(export.tokenizer, form=form_of(export.metadata, where=str(path)))
        vocabulary, notes = tokenizer.vocabulary, []
        if _writes_our_turns(tokenizer, export.metadata):
            vocabulary, tokenizer = extended(tokenizer)
            notes = [
                f"{', '.join(PIECES[USER : SYSTEM + 1])} are new tokens of its vocabulary: it was trained to write them"
            ]
        parts = to_transformers(thinker, vocabulary, origin=export.metadata.get("hf"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    staying = [name for name in names if name != THINKER]
    notes += [f"the Thinker alone leaves; these stay: {', '.join(staying)}"] if staying else []
    foreign = tokenizer.model if isinstance(tokenizer.model, HFTokenizerModel) else None
    if foreign is not None and _foreign_template(foreign.files) is None:
        notes.append("there is no chat template: the model came without one, and was not trained to write turns")
    return Leaving(
        config=parts.config, tensors=parts.tensors, tokenizer=tokenizer, metadata=export.metadata,
        special={"unk": UNK, "bos": BOS, "eos": EOS, "pad": PAD} if foreign is None else unpack(tokenizer.content)["special"],
        suppressed=[index for index in range(len(PIECES)) if index != EOS] if foreign is None else (),
        chat_template=NATIVE_TEMPLATE if foreign is None else _foreign_template(foreign.files),
        staying=staying, parameters=sum(each.numel() for each in thinker.parameters()), notes=notes,
    )  # fmt: skip


def _writes_our_turns(tokenizer: Tokenizer, metadata: Mapping[str, Any]) -> bool:
    """Whether a pretrained vocabulary without known turns was trained here to write ours."""
    foreign = isinstance(tokenizer.model, HFTokenizerModel) and tokenizer.model.chat is None
    return foreign and metadata.get("stage") == "omni_sft"


def _thinker_alone(path: Path) -> tuple[Export, list[str]]:
    """The export with its Thinker, if it has one, and the names of all its modules."""
    if path.is_file():
        export = read_export(path)
        return export, list(export.modules)
    names = list(read_description(path)["parts"])
    return load_export(path, [name for name in names if name == THINKER]), names


def _foreign_template(files: Mapping[str, str]) -> str | None:
    """As the imported folder said it."""
    if "chat_template.jinja" in files:
        return files["chat_template.jinja"]
    found = json.loads(files.get("tokenizer_config.json", "{}")).get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next((each.get("template") for each in found if each.get("name") == "default"), None)
    return found if isinstance(found, str) else None
