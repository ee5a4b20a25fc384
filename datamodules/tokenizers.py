"""A tokenizer for a text: given, found, or trained once and kept."""

import hashlib
from pathlib import Path
from typing import Any

from datamodules.manifests import read_manifest
from muomni.frontends.tokenizer import Tokenizer


def tokenizer_for(
    given: str | None,
    *,
    text: str | None,
    vocab_size: int,
    root: Path,
    shape: str = "text",
    media_root: str | None = None,
    exact: bool = True,
) -> Path:
    """Path of a SentencePiece model.

    given: a model's path wins. Else one of `vocab_size` pieces is trained on the manifest `text` and kept in `root` under
    a name made of the text's bytes and the size, so that the same text finds it again. Stages that start at once may each
    train it: they write the same bytes. shape: of the manifest, "text" or
    "image_text", whose captions are its text; media_root: of its pictures, None: its own folder. exact: False allows fewer
    pieces where the text has no more.
    """
    if given is not None:
        path = Path(given)
        if not path.is_file():
            raise FileNotFoundError(f"datamodule.tokenizer={given}: no such file")
        return path
    if text is None:
        raise ValueError("no tokenizer and no training text: give datamodule.tokenizer=PATH or data.train=PATH")
    if not Path(text).is_file():
        raise FileNotFoundError(f"{text}: no such file to train a tokenizer on")
    content = hashlib.sha256(Path(text).read_bytes()).hexdigest()[:12]
    path = root / f"bpe{vocab_size}-{content}" / "tokenizer.model"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = read_manifest(text, shape=shape, root=media_root)
        Tokenizer.train((text for row in rows for text in _texts_of(row)), vocab_size, path, exact=exact)
    elif exact:
        Tokenizer.load(path).expect_size(vocab_size)
    return path


def _texts_of(row: dict[str, Any]) -> list[str]:
    if "prompt" in row:
        return [row["prompt"], row["answer"]]
    return row["captions"] if "captions" in row else [row["text"]]
