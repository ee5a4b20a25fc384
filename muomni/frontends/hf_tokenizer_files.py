"""A pretrained model's tokenizer files -> the content of an export's tokenizer.json (hf_tokenizer.py).

tokenizer.json has the tokens; which of them are bos, eos, pad and unk, and how a conversation is written, is said next to it, in
tokenizer_config.json, special_tokens_map.json, chat_template.jinja and config.json, each of which may be missing. Nothing in
them is executed: a chat template is recognised by its markers (chat_form.py).
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muomni.frontends.chat_form import KNOWN, ChatForm, recognise
from muomni.frontends.hf_tokenizer import Spelling, is_packed, pack, read_library
from muomni.frontends.vocabulary_map import ROLES, VocabularyMap
from muomni.short_repr import shown
from muomni.special_tokens import PIECES, USER
from muomni.user_path import user_path

log = logging.getLogger(__name__)

TOKENIZER = "tokenizer.json"
#: What says more of it; all of these leave as they came.
CONFIGS = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "added_tokens.json")
MOST_BYTES = 256 << 20  # Gemma's, the largest, has 33 MB
#: Written forms of a tokenizer.json that comes alone.
USUAL = {
    "eos": ("</s>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<eos>"),
    "bos": ("<s>", "<|begin_of_text|>", "<bos>"),
    "pad": ("<pad>", "<|pad|>", "[PAD]"),
    "unk": ("<unk>", "[UNK]"),
}


def read_pretrained(path: str | Path, *, rows: int | None = None) -> bytes:
    """The content for `Tokenizer(content)` and for the file `tokenizer.json` of an export.

    path: a tokenizer.json, or the folder that holds it. rows: of the model's embedding, which may be more than there are tokens;
    None: as many as tokens (for a model that is trained from scratch). The content holds which row is whose:

        tokenizer = Tokenizer(read_pretrained(folder, rows=len(embedding)))
        ours = tokenizer.vocabulary.into(embedding)     # (tokenizer.vocab_size, D): also head and head bias
        theirs = tokenizer.vocabulary.back(ours)        # bit for bit as before

    Raises FileNotFoundError and ValueError of one line: a missing or broken file, a sort of tokenizer that is not known, more
    tokens than rows.
    """
    path = user_path(path)
    file = path / TOKENIZER if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file: transformers writes one by save_pretrained of its AutoTokenizer"
        )
    files = {TOKENIZER: _text(file)}
    if is_packed(files[TOKENIZER][:64].encode()):
        raise ValueError(f"{file}: of an export of muomni already, whose model it belongs to")
    for name in CONFIGS:
        if (file.parent / name).is_file():
            files[name] = _text(file.parent / name)
    try:
        library = read_library(files[TOKENIZER])
        size = 1 + max(library.get_vocab(with_added_tokens=True).values(), default=-1)
        dropped = _beyond(library, rows) if rows is not None else set()
        special = _by_number(file.parent, library) | _special(files, library)
        special = {role: index for role, index in special.items() if index not in dropped}
        chat = _chat(file, files, library, special, dropped)
        if chat is not None and chat.end is not None:
            special["eos"] = library.token_to_id(chat.end)
        rows = size if rows is None else rows
        Spelling(library), VocabularyMap(rows, special)  # raise for what `Tokenizer` would refuse
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return pack(files, rows=rows, special=special, chat=chat)


def _beyond(library: Any, rows: int) -> set[int]:
    """Special tokens that the model's rows do not hold (Gemma's image token, of a model that reads text only). Raises ValueError
    where there are tokens of text among them."""
    vocabulary = library.get_vocab(with_added_tokens=True)
    special = {index for index, token in library.get_added_tokens_decoder().items() if token.special}
    beyond = {index: token for token, index in vocabulary.items() if index >= rows}
    for index in sorted(beyond.keys() - special):
        raise ValueError(
            f"token {index} ({shown(beyond[index])}) is outside of the {rows} rows of the model's embedding (vocab_size): the "
            "tokenizer of another model; put its own next to it"
        )
    return set(beyond)


def _by_number(folder: Path, library: Any) -> dict[str, int]:
    """Role -> id of what the model's configuration says; only special tokens, since defaults stand there that nobody meant."""
    found: dict[str, int] = {}
    special = {index for index, token in library.get_added_tokens_decoder().items() if token.special}
    for name in ("config.json", "generation_config.json"):
        said = _json({name: _text(folder / name)}, name) if (folder / name).is_file() else {}
        for role in USUAL:
            ids = said.get(f"{role}_token_id")
            index = ids[0] if isinstance(ids, list) and ids else ids
            if type(index) is int and index in special:
                found[role] = index
    return found


def _special(files: Mapping[str, str], library: Any) -> dict[str, int]:
    """Role -> id: as the configurations say, else by its usual name; ours by their own."""
    said = _json(files, "special_tokens_map.json") | _json(files, "tokenizer_config.json")
    found: dict[str, int] = {}
    for role in USUAL:
        token = said.get(f"{role}_token")
        token = token.get("content") if isinstance(token, Mapping) else token
        if token is None and not said:
            token = next((name for name in USUAL[role] if library.token_to_id(name) is not None), None)
        if token is None:
            continue
        index = library.token_to_id(token) if isinstance(token, str) else None
        if index is None and role in ("pad", "unk"):  # which transformers would add: it has no row
            continue
        if index is None:
            raise ValueError(f"tokenizer_config.json, {role}_token: {shown(token)} is no token of it")
        found[role] = index
    named = {str(token.content): index for index, token in library.get_added_tokens_decoder().items() if token.special}
    return found | {role: named[PIECES[ours]] for role, ours in ROLES.items() if ours >= USER and PIECES[ours] in named}


def _chat(
    file: Path, files: Mapping[str, str], library: Any, special: Mapping[str, int], dropped: set[int]
) -> ChatForm | None:
    """The form of its chat template; None without one, or for one that is not known, which is logged."""
    template = files.get("chat_template.jinja", _json(files, "tokenizer_config.json").get("chat_template"))
    if isinstance(template, list):  # several, by name
        named = {each.get("name"): each.get("template") for each in template if isinstance(each, Mapping)}
        template = named.get("default")
    if (
        not isinstance(template, str) or {"user", "assistant", "system"} <= special.keys()
    ):  # a tokenizer of ours that left
        return None
    bos = library.id_to_token(special["bos"]) if "bos" in special else None
    form = recognise(template, bos=bos)
    absent = [library.id_to_token(index) for index in dropped]
    if form is not None and form.end is not None and library.token_to_id(form.end) is None:
        absent.append(form.end)
    if form is None or any(token in str(form.data()) for token in absent):
        log.warning(
            "%s: its chat template is none of %s: conversations are written with muomni's own <user> and <assistant>, whose "
            "rows are new", file, ", ".join(KNOWN.values()),
        )  # fmt: skip
        return None
    return form


def _json(files: Mapping[str, str], name: str) -> dict[str, Any]:
    if name not in files:
        return {}
    try:
        document = json.loads(files[name])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} next to it is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{name} next to it is no JSON object")
    return document


def _text(path: Path) -> str:
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes are too many for a tokenizer's file")
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no UTF-8 text: not a {path.name} of `tokenizers`") from error
