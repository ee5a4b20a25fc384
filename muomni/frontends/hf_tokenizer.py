"""A pretrained model's tokenizer.json (Hugging Face's `tokenizers`) as the model of a tokenizer (tokenizer.py).

An export's `tokenizer.json` is one JSON document with what belongs together: the files as they came (tokenizer.json and
tokenizer_config.json among them, each as a string, so that they leave byte for byte), how many rows the model's embedding
has, which ids are bos, eos, pad and unk, and the form of a conversation (chat_form.py).

Their library cuts text into tokens. The way back is written here, since a stream needs what each token adds in bytes: a
byte-level token its bytes, others their text with a space for each U+2581. Two properties follow: a stream's pieces join to the
whole text, and characters of several tokens appear when the last of them is there.

Legend: R rows of the embedding.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from muomni.frontends.chat_form import ChatForm
from muomni.frontends.sentence_piece import META
from muomni.frontends.vocabulary_map import VocabularyMap
from muomni.short_repr import shown
from muomni.special_tokens import BOS, PIECES, UNK

HEAD = b'{"muomni": "tokenizer", '
VERSION = 1
MODELS = ("BPE", "Unigram")
BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


def is_packed(content: bytes) -> bool:
    """Whether `content` is an export's tokenizer.json."""
    return content.startswith(HEAD)


def pack(files: Mapping[str, str], *, rows: int, special: Mapping[str, int], chat: ChatForm | None) -> bytes:
    """The content of an export's tokenizer.json. files: name -> content, "tokenizer.json" among them. rows: R. special: "bos",
    "eos", "pad", "unk" -> id, as far as there are. The same arguments give the same bytes."""
    document = {
        "version": VERSION, "rows": rows, "special": dict(special),
        "chat": None if chat is None else chat.data(), "files": dict(sorted(files.items())),
    }  # fmt: skip
    return HEAD + json.dumps(document, ensure_ascii=False)[1:].encode()


def is_json(content: bytes) -> bool:
    """Whether `content` is a JSON document, as a tokenizer.json is that no model has been imported with."""
    return content.lstrip()[:1] == b"{"


def unpack(content: bytes) -> dict[str, Any]:
    """What `pack` was given, as plain data. Raises ValueError for a damaged file."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"damaged: {error}") from error
    if document.get("version") != VERSION:
        raise ValueError(f"version {shown(document.get('version'))} of this file is not known here: update muomni")
    kinds = {"rows": int, "special": dict, "files": dict}
    for key, kind in kinds.items():
        if not isinstance(document.get(key), kind):
            raise ValueError(f"damaged: no {key!r} in it")
    if not all(isinstance(each, str) for each in document["files"].values()):
        raise ValueError("damaged: its files are no text")
    if not all(type(each) is int for each in document["special"].values()):
        raise ValueError("damaged: its special tokens have no ids")
    return document


class HFTokenizerModel:
    """See tokenizer.TokenizerModel."""

    file_name = "tokenizer.json"

    def __init__(self, content: bytes) -> None:
        """content: of `pack`. Raises ValueError for a tokenizer that cannot be read, or of a sort that is not known."""
        document = unpack(content)
        self.files: dict[str, str] = document["files"]
        self.vocabulary = VocabularyMap(document["rows"], document["special"])
        self.vocab_size, self.rows = self.vocabulary.size, self.vocabulary.rows
        self.library = read_library(self.files.get("tokenizer.json", ""))
        self.spelling = Spelling(self.library)
        self.puts_space, self.drops_first_space = self.spelling.puts_space, self.spelling.drops_first_space
        places = self.vocabulary.places
        added = {i: token for i, token in self.library.get_added_tokens_decoder().items() if i < self.rows}
        self._added = {places[index]: str(token.content) for index, token in added.items()}
        special_ids = {str(token.content): places[index] for index, token in added.items() if token.special}
        for index in document["special"].values():  # that their file does not call special
            special_ids.setdefault(str(self.library.id_to_token(index)), places[index])
        for index in self.vocabulary.added:
            name = PIECES[index]  # which an ordinary token of theirs may have
            special_ids[name if name not in special_ids else f"<muomni {name[1:]}"] = index
        self.special_ids: Mapping[str, int] = special_ids
        self._silent = frozenset(self.special_ids.values()) | set(range(len(PIECES)))
        self._bytes: dict[int, bytes] = {}
        self.chat = None if document.get("chat") is None else ChatForm.read(document["chat"])
        with_special = self.library.encode("a").ids
        self.begins_with_bos = bool(with_special) and with_special[0] < self.rows and places[with_special[0]] == BOS

    @cached_property
    def has_bytes(self) -> bool:
        if self.spelling.byte_level:
            return all(self.library.token_to_id(character) is not None for character in BYTE_OF)
        return all(self.library.token_to_id(f"<0x{byte:02X}>") is not None for byte in range(256))

    @cached_property
    def _unprefixed(self) -> Any:
        """The library's tokenizer without the space that it puts before a text."""
        return self.library if not self.puts_space else read_library(without_prefix(self.files["tokenizer.json"]))

    def encode(self, text: str) -> list[int]:
        return self._ids(self.library, text)

    def encode_segments(self, segments: Sequence[str | int], *, follows_text: bool) -> list[int]:
        """As the library encodes the whole string with its special tokens, but none of them is found in the texts."""
        ids: list[int] = []
        for index, each in enumerate(segments):
            if isinstance(each, int):
                ids.append(each)
                continue
            bare = follows_text if index == 0 else self.spelling.first_only
            ids += self._ids(self._unprefixed if bare else self.library, each)
        return ids

    @cached_property
    def _within_special(self) -> re.Pattern[str]:
        """After the first character of a written special token."""
        return re.compile("|".join(f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})" for name in self.special_ids))

    def _ids(self, library: Any, text: str) -> list[int]:
        places = self.vocabulary.places
        ids = [places[index] for index in library.encode(text, add_special_tokens=False).ids]
        if self._silent.isdisjoint(set(ids) - {UNK}):
            return ids
        first, *others = self._within_special.split(text)  # Unigram finds them in spite of `encode_special_tokens`
        if not others:
            return ids
        return self._ids(library, first) + [i for each in others for i in self._ids(self._unprefixed, each)]

    def decode(self, ids: Sequence[int]) -> str:
        text = b"".join([self.token_bytes(index) for index in ids]).decode(errors="replace")
        return text.removeprefix(" ") if self.drops_first_space else text

    def is_byte(self, index: int) -> bool:
        return not self.spelling.byte_level and BYTE_PIECE.fullmatch(self.piece(index)) is not None

    def piece(self, index: int) -> str:
        if index in self.vocabulary.added:
            return PIECES[index]
        return self.library.id_to_token(self.vocabulary.sources[index]) or ""

    def token_bytes(self, index: int) -> bytes:
        spelt = self._bytes.get(index)
        if spelt is None:
            written = self._added.get(index)
            spelt = self.spelling.of_added(written) if written is not None else self.spelling(self.piece(index))
            self._bytes[index] = spelt = b"" if index in self._silent else spelt
        return spelt


def _byte_of() -> dict[str, int]:
    """The characters by which a byte-level tokenizer writes the 256 bytes (GPT-2): printable ones by themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


BYTE_OF = _byte_of()


class Spelling:
    """Token -> the bytes that it adds to a text.

    byte_level: tokens are written in `BYTE_OF`; else in text, META for a space, and `<0x0A>` for a byte. puts_space: a space
    is put before a text; first_only: but not between special tokens. drops_first_space: it is left out of a decoded text.
    """

    def __init__(self, library: Any) -> None:
        """Raises ValueError for a decoder that is not known."""
        before = [*_parts(library.normalizer), *_parts(library.pre_tokenizer)]
        after = _parts(library.decoder)
        types = [part["type"] for part in after]
        self.byte_level = types == ["ByteLevel"]
        if self.byte_level:
            self.drops_first_space = False
        elif types == ["Metaspace"]:
            self.drops_first_space = _scheme(after[0]) != "never"
        elif types and types[0] == "Replace" and set(types) <= {"Replace", "ByteFallback", "Fuse", "Strip"}:
            self.drops_first_space = "Strip" in types
        else:
            raise ValueError(
                f"its decoder is {'-'.join(types) or 'missing'}: known are byte-level tokenizers (GPT-2, Llama 3, Qwen) and "
                "those that write a space as U+2581 (Llama 2, Mistral, Gemma)"
            )
        schemes = [_scheme(part) for part in before]
        self.puts_space, self.first_only = any(each != "never" for each in schemes), "first" in schemes

    def __call__(self, piece: str) -> bytes:
        if self.byte_level:
            return bytes([BYTE_OF[character] for character in piece if character in BYTE_OF])
        byte = BYTE_PIECE.fullmatch(piece)
        return bytes([int(byte[1], 16)]) if byte else piece.replace(META, " ").encode()

    def of_added(self, piece: str) -> bytes:
        """Of a token that is found in the text as it is written."""
        return piece.encode() if self.byte_level else self(piece)


def read_library(text: str) -> Any:
    """The library's tokenizer of a tokenizer.json. Raises ValueError, one line."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ValueError("a tokenizer.json is read by the package tokenizers: pip install 'muomni[hf]'") from error
    try:
        library = Tokenizer.from_str(text)
    except Exception as error:  # the library raises no other
        raise ValueError(f"no tokenizer.json that tokenizers can read: {' '.join(str(error).split())[:200]}") from error
    if type(library.model).__name__ not in MODELS:
        raise ValueError(f"model.type {type(library.model).__name__} is not known: {' and '.join(MODELS)} are")
    library.no_truncation()
    library.no_padding()
    library.encode_special_tokens = True  # as the text that they are, where a user wrote them
    return library


def without_prefix(text: str) -> str:
    """A tokenizer.json that puts no space before a text."""
    document = json.loads(text)
    document["normalizer"] = _unprefixed(document.get("normalizer"))
    document["pre_tokenizer"] = _unprefixed(document.get("pre_tokenizer"))
    return json.dumps(document)


def _unprefixed(part: Any) -> Any:
    if part is None or part["type"] == "Prepend":
        return None
    for key in ("normalizers", "pretokenizers"):
        if key in part:
            kept = [_unprefixed(each) for each in part[key]]
            part[key] = [each for each in kept if each is not None]
    if part["type"] == "Metaspace":
        part |= {"prepend_scheme": "never"}
        part.pop("add_prefix_space", None)
    if part["type"] == "ByteLevel":
        part["add_prefix_space"] = False
    return part


def _parts(component: Any) -> list[dict[str, Any]]:
    """A normalizer, pre-tokenizer or decoder of the library as data; of a sequence its parts."""
    data = {} if component is None else json.loads(component.__getstate__())
    for key in ("normalizers", "pretokenizers", "decoders"):
        if key in data:
            return list(data[key])
    return [data] if data else []


def _scheme(part: Mapping[str, Any]) -> str:
    """Where a part puts a space before a text: "never", "first" or "always"."""
    if part["type"] == "Prepend":
        return "always"
    if part["type"] == "Metaspace":
        return str(part.get("prepend_scheme") or ("always" if part.get("add_prefix_space", True) else "never"))
    if part["type"] == "ByteLevel":
        return "always" if part.get("add_prefix_space") else "never"
    return "never"
