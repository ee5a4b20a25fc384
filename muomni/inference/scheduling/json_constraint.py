"""Answers that are JSON of a given schema: tokens that would leave it are masked out while they are chosen.

llguidance (Guidance, github.com/guidance-ai/llguidance) computes which tokens may follow; here it is told what each token spells
within a text, and that a first space is nothing, since decoding drops it.

Shapes: V vocabulary.
"""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.errors import InvalidOption
from muomni.short_repr import shown
from muomni.special_tokens import BOS, EOS

if TYPE_CHECKING:
    from llguidance import LLMatcher

MAX_SCHEMA = 64 * 1024  # characters; larger ones take seconds to compile
MARK = "\x01"  # splits no word: it is a byte piece, or unknown
# As json.dumps writes it. With free white space a small model writes nothing else.
LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
ANY_OBJECT: dict[str, Any] = {"type": "object"}


class JsonGrammar:
    """Constraints for one tokenizer; make one and keep it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Raises InvalidOption without the package llguidance."""
        try:
            from llguidance import LLTokenizer
            from llguidance._tokenizer import TokenizerWrapper
        except ImportError as error:
            raise _refused("JSON needs llguidance, which is not installed: pip install 'muomni[serve]'") from error
        self.tokenizer = tokenizer
        self.spelling = [token_bytes(tokenizer, token) for token in range(tokenizer.vocab_size)]
        self.vocabulary = LLTokenizer(TokenizerWrapper(_Vocabulary(tokenizer, self.spelling)))

    def constraint(self, schema: Mapping[str, Any] = ANY_OBJECT) -> "JsonConstraint":
        """A constraint for one answer. Raises InvalidOption, one line, for a schema that is no schema, that llguidance does not
        know how to keep, or that the vocabulary cannot spell."""
        from llguidance import LLMatcher

        if not isinstance(schema, Mapping):
            raise _refused(f"a JSON schema is an object, not {shown(schema)}")
        try:
            text = json.dumps({**schema, "x-guidance": LAYOUT}, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise _refused(f"the schema cannot be written as JSON: {error}") from error
        if len(text) > MAX_SCHEMA:
            raise _refused(f"the schema has {len(text)} characters, more than {MAX_SCHEMA}: make it smaller")
        self._check_spelling(text)
        matcher = LLMatcher(self.vocabulary, f'start: SPACE? json\nSPACE: " "\njson: %json {text}', log_level=0)
        constraint = JsonConstraint(matcher)
        constraint.allowed()  # raises for a grammar that is refused
        return constraint

    def _check_spelling(self, text: str) -> None:
        """Raise InvalidOption for a character of the schema, or of JSON itself, that no token spells."""
        if self.tokenizer.has_bytes:
            return
        known = {spelt.decode(errors="ignore") for spelt in self.spelling}
        if missing := sorted(set('{}[]":, ' + json.dumps(json.loads(text), ensure_ascii=False)) - known):
            raise _refused(f"this model's vocabulary cannot write {shown(''.join(missing))}")


class JsonConstraint:
    """A `Constraint` (running.py) of one answer."""

    def __init__(self, matcher: "LLMatcher") -> None:
        self.matcher = matcher
        self._allowed: Tensor | None = None

    def copy(self) -> "JsonConstraint":
        """For another answer; quicker than to compile the schema again."""
        return JsonConstraint(self.matcher.deep_copy())

    @property
    def accepting(self) -> bool:
        """True if the answer is complete."""
        return self.matcher.is_accepting()

    def allowed(self) -> Tensor:
        """(V) bool: the tokens that may follow. Raises InvalidOption where there is none, or the schema is too complex."""
        if self._allowed is None:
            allowed = torch.frombuffer(bytearray(self.matcher.compute_logit_bias()), dtype=torch.uint8) > 0
            if self.matcher.is_error():
                raise _refused(_one_line(self.matcher.get_error()))
            if not allowed.any():
                raise _refused("the schema demands what this model's vocabulary cannot write")
            self._allowed = allowed
        return self._allowed

    def push(self, token: int) -> None:
        """Read the next token. Raises InvalidOption if it is none of those allowed."""
        self._allowed = None
        if not self.matcher.consume_token(token):
            raise _refused(_one_line(self.matcher.get_error()))


class _Vocabulary:
    """What llguidance needs to know of a tokenizer."""

    eos_token_id, bos_token_id = EOS, BOS

    def __init__(self, tokenizer: Tokenizer, spelling: list[bytes]) -> None:
        self.tokenizer, self.tokens = tokenizer, spelling
        self.special_token_ids = tuple(sorted(tokenizer.special_ids.values()))
        self.before = len(tokenizer.encode(MARK))

    def __call__(self, text: str) -> list[int]:
        """Text -> ids without the space that `encode` puts before it: how forced text is written."""
        return self.tokenizer.encode(MARK + text)[self.before :]


def token_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    """What a token adds to the text; those that add nothing, the special ones among them, their name after a byte that no
    text has."""
    return tokenizer.token_bytes(token) or b"\xff" + (tokenizer.piece(token) or f"<{token}>").encode()


def _refused(message: str) -> InvalidOption:
    return InvalidOption(f"response_format: {message}", param="response_format")


def _one_line(error: str) -> str:
    """llguidance's message without the grammar that it is quoted with."""
    message = error.split("failed to compile JSON schema: ")[-1]
    message = re.split(r"\n\s*\d+ \||\n<state>", message)[0]
    return " ".join(message.split())[:300]
