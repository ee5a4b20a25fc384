"""A tokenizer for a text: given, found, or trained once and kept."""

import hashlib
import itertools
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from datamodules.fingerprint import digest
from datamodules.formats import Reading
from datamodules.formats.hugging_face import HUGGING_FACE
from datamodules.large_manifests import is_large
from datamodules.lazy_rows import LazyRows
from datamodules.manifests import Row, TextFile, read_manifest
from datamodules.parallel_read import PATIENCE
from muomni.frontends.hf_tokenizer import is_json, is_packed
from muomni.frontends.hf_tokenizer_files import read_pretrained
from muomni.frontends.special_pieces import with_special_pieces
from muomni.frontends.text_form import form_named
from muomni.frontends.tokenizer import Tokenizer
from muomni.special_tokens import PIECES

log = logging.getLogger(__name__)

SAMPLE = 500_000  # rows


def tokenizer_for(
    given: str | None,
    *,
    text: str | Sequence[TextFile] | None,
    vocab_size: int,
    root: Path,
    shape: str = "text",
    exact: bool = True,
    form: str | None = None,
    cache: str | None = None,
) -> Path:
    """Path of a tokenizer.

    given: a SentencePiece model's path wins, or a pretrained model's tokenizer.json; of one that lacks our special pieces, a copy
    in `root` that has them. Else one of
    `vocab_size` pieces is trained on the manifest `text` (or several) and kept in `root` under a name made of the text's bytes
    and the size, so that the same text finds it again. Stages that start at once may each train it: they write the same bytes.
    shape: of the manifest, "text" or "image_text", whose captions are its text. form: of the text that it is trained on
    (muomni/frontends/text_form.py). exact: False allows fewer pieces where the text has no more. cache: as of `read_manifest`.
    Of a large manifest, or pack, `SAMPLE` rows spread over it are trained on.
    Raises ValueError where a given one has another number of pieces than `vocab_size`.
    """
    if given is not None:
        return _given(Path(given), vocab_size=vocab_size, root=root, exact=exact)
    files = [TextFile(text, Reading(), None)] if isinstance(text, str) else list(text or ())
    if not files:
        raise ValueError("no tokenizer and no training text: give datamodule.tokenizer=PATH or data.train=PATH")
    for file in files:
        if not Path(file.path).exists() and file.reading.format != HUGGING_FACE.name:
            raise FileNotFoundError(f"{file.path}: no such file to train a tokenizer on")
    path = root / f"bpe{vocab_size}-{_content(files)}{'' if form is None else f'-{form}'}" / "tokenizer.model"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = itertools.chain.from_iterable(_some_rows(each, shape=shape, cache=cache) for each in files)
        texts = (form_named(form)(text) for row in rows for text in _texts_of(row))
        bar = tqdm(texts, "texts for the tokenizer", unit="text", mininterval=1, delay=PATIENCE, leave=False)
        start = time.perf_counter()
        Tokenizer.train(bar, vocab_size, path, exact=exact)
        if time.perf_counter() - start > PATIENCE:
            log.info("%s: a tokenizer of %d pieces, trained in %.0f s", path, vocab_size, time.perf_counter() - start)
    elif exact:
        Tokenizer.load(path).expect_size(vocab_size)
    return path


def _some_rows(file: TextFile, *, shape: str, cache: str | None) -> Sequence[Row]:
    """All rows of a training manifest; of a large one some, evenly spread."""
    rows = read_manifest(file.path, shape=shape, root=file.root, reading=file.reading, phase="train", cache=cache)
    if isinstance(rows, LazyRows):
        return rows.choose(np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(np.int32))
    return rows


def _content(files: Sequence[TextFile]) -> str:
    """A name that changes with what is read: 12 hex digits."""
    if len(files) > 1:
        return hashlib.sha256("\0".join(_content([each]) for each in files).encode()).hexdigest()[:12]
    text, reading = Path(files[0].path), files[0].reading
    if text.is_file() and reading == Reading() and not is_large(text):
        return hashlib.sha256(text.read_bytes()).hexdigest()[:12]
    return hashlib.sha256(f"{text.absolute()}\0{digest(text)}\0{reading.identity()}".encode()).hexdigest()[:12]


def pieces_of(path: str) -> int:
    """Pieces of a given tokenizer, our special ones included: the `vocab_size` that it needs. Raises FileNotFoundError and
    ValueError, naming it."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"tokenizer={path}: no such file")
    try:
        return Tokenizer(_with_our_pieces(Path(path))[0]).vocab_size
    except ValueError as error:
        raise ValueError(f"tokenizer={path}: {_without(path, error)}") from error


def _with_our_pieces(path: Path) -> tuple[bytes, list[str]]:
    """A tokenizer's content with our special pieces at their ids, and the names of those that were added."""
    content = path.read_bytes()
    if is_packed(content):
        return content, []
    if is_json(content) or path.suffix == ".json":
        whole = read_pretrained(path)
        return whole, [PIECES[index] for index in Tokenizer(whole).vocabulary.added]
    return with_special_pieces(content)


def _without(path: Path | str, error: ValueError) -> str:
    """An error's message that does not name the file a second time."""
    return str(error).removeprefix(f"{path}: ")


def tokenizer_of_export(path: str) -> Path:
    """The tokenizer of the export in whose folder `path` is: a tokenizer.model, or a pretrained model's tokenizer.json in its
    place."""
    named, other = Path(path), Path(path).with_name("tokenizer.json")
    return other if not named.is_file() and other.is_file() else named


def _texts_of(row: dict[str, Any]) -> list[str]:
    if "prompt" in row:
        return [row["prompt"], row["answer"]]
    return row["captions"] if "captions" in row else [row["text"]]


def _given(path: Path, *, vocab_size: int, root: Path, exact: bool) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"datamodule.tokenizer={path}: no such file")
    content = path.read_bytes()
    try:
        whole, added = _with_our_pieces(path)
        tokenizer = Tokenizer(whole)
    except ValueError as error:
        raise ValueError(f"datamodule.tokenizer={path}: {_without(path, error)}") from error
    pieces = tokenizer.vocab_size
    if pieces != vocab_size and (exact or pieces > vocab_size):
        more = f", with the special ones that it lacks ({' '.join(added)})," if added else ""
        size = f"{pieces} pieces{more} and vocab_size={vocab_size}"
        raise ValueError(f"datamodule.tokenizer={path} has {size}: give vocab_size={pieces}")
    _say_what_it_changes(path, tokenizer)
    if whole == content:
        return path
    kept = root / f"given-{hashlib.sha256(whole).hexdigest()[:12]}" / tokenizer.file_name
    log.warning(
        "%s: the first %d ids are those of special pieces here%s; its own follow (%d in all); the copy %s is used",
        path, len(PIECES), f", {' '.join(added)} are new" if added else "", pieces, kept,
    )  # fmt: skip
    if not kept.is_file() or kept.read_bytes() != whole:
        kept.parent.mkdir(parents=True, exist_ok=True)
        tokenizer.save(kept)
    return kept


def _say_what_it_changes(path: Path, tokenizer: Tokenizer) -> None:
    """A tokenizer of ours gives every text back as it was; others need not."""
    lost = []
    if not tokenizer.has_bytes:
        lost.append("characters that it has no piece for become <unk> (it was trained without byte_fallback)")
    if tokenizer.decode(tokenizer.encode("a  b")) != "a  b" and tokenizer.decode(tokenizer.encode("a b")) == "a b":
        lost.append("several spaces become one")
    if lost:
        log.warning("%s does not keep text as it is: %s", path, "; ".join(lost))
