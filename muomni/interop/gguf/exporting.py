"""An export's Thinker -> a GGUF file with its tokenizer, whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muomni.checkpoints.atomic_write import atomic_write
from muomni.frontends.hf_tokenizer import HFTokenizerModel
from muomni.interop.gguf.tensors import DTYPES
from muomni.interop.gguf.vocabulary import Vocabulary, of_sentencepiece, of_tokenizer_json
from muomni.interop.gguf.writing import Text, check_config, write_gguf
from muomni.interop.hf.exporting import check_new
from muomni.interop.hf.leaving import Leaving, read_leaving
from muomni.interop.hf.model_card import UNKNOWN


def export_gguf(source: Path, out: Path, *, dtype: str, about: Mapping[str, Any]) -> list[str]:
    """Write the file `out`; returns notes for the user. dtype: of DTYPES. about: values of ABOUT. Raises ValueError or
    FileNotFoundError of one line."""
    if out.suffix != ".gguf":
        raise ValueError(f"out={out}: name it .gguf")
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype}: available are {', '.join(DTYPES)}")
    check_new(out)
    leaving = read_leaving(source)
    try:
        check_config(leaving.config)
        vocabulary = vocabulary_of(leaving)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    text = Text(
        vocabulary=vocabulary, special=leaving.special, add_bos=leaving.tokenizer.model.begins_with_bos,
        chat_template=leaving.chat_template, suppressed=leaving.suppressed,
    )  # fmt: skip
    said = {**about, "name": about["name"] or out.stem, "tags": ["muomni"]}
    if said["license"] == UNKNOWN:
        said["license"] = ""
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as temporary:
        write_gguf(temporary, config=leaving.config, tensors=leaving.tensors, dtype=dtype, text=text, about=said)
    if leaving.tokenizer.form not in (None, "as_is"):
        leaving.notes.append(
            f"llama.cpp does not write texts as {leaving.tokenizer.form}, as the Thinker reads them: write prompts so"
        )
    return leaving.notes


def vocabulary_of(leaving: Leaving) -> Vocabulary:
    """The tokenizer as llama.cpp keeps it, a piece for each row. Raises ValueError naming what llama.cpp has not."""
    model = leaving.tokenizer.model
    if isinstance(model, HFTokenizerModel):
        found = of_tokenizer_json(json.loads(model.files["tokenizer.json"]))
    else:
        found = of_sentencepiece(leaving.tokenizer.content)
    return found.fitted(leaving.config["vocab_size"])
