"""A pretrained model's tokenizer that leaves with our special tokens as tokens of its own: for a model that was trained here to
write conversations in our form, where it has no chat template that is known (chat_form.py).

Our <user>, <assistant>, <system>, <image> and <audio>, as far as it lacks them (and <s>, where it has no bos), follow its last
token, in rows that were unused (embeddings are often padded) or new. The chat template is ours. Read again as a pretrained model,
all of them are where they were.
"""

import json
import re
from typing import Any

from muomni.frontends.hf_tokenizer import HFTokenizerModel, pack, unpack
from muomni.frontends.tokenizer import Tokenizer
from muomni.frontends.vocabulary_map import ROLES as VOCABULARY_ROLES
from muomni.frontends.vocabulary_map import VocabularyMap
from muomni.interop.hf.chat_template import TEMPLATE
from muomni.special_tokens import ASSISTANT, BOS, EOS, PAD, PIECES, SYSTEM, UNK, USER

CONFIG, TEMPLATE_FILE = "tokenizer_config.json", "chat_template.jinja"
ROLES = {"BOS": BOS, "EOS": EOS, "USER": USER, "ASSISTANT": ASSISTANT, "SYSTEM": SYSTEM}  # as the template names them


def extended(tokenizer: Tokenizer) -> tuple[VocabularyMap, Tokenizer]:
    """Our rows -> those of the extended vocabulary (`rows` of the embedding, `back`), and its tokenizer. Raises ValueError for a
    tokenizer of ours, which has these tokens."""
    model = tokenizer.model
    if not isinstance(model, HFTokenizerModel):
        raise ValueError("a tokenizer of ours has its special tokens already")
    added = [index for index in model.vocabulary.added if index not in (UNK, PAD)]
    first = 1 + max(model.library.get_vocab(with_added_tokens=True).values())
    vocabulary = model.vocabulary.extended(added, at=first)
    named = {index: role for role, index in VOCABULARY_ROLES.items()}
    special = unpack(tokenizer.content)["special"] | {named[index]: first + n for n, index in enumerate(added)}
    files = _files(model, tokenizer, added, at=first)
    return vocabulary, Tokenizer(pack(files, rows=vocabulary.rows, special=special, chat=None), form=tokenizer.form)


def _files(model: HFTokenizerModel, tokenizer: Tokenizer, added: list[int], *, at: int) -> dict[str, str]:
    names = [PIECES[index] for index in added]
    document: dict[str, Any] = json.loads(model.files["tokenizer.json"])
    document["added_tokens"] = [
        *(document.get("added_tokens") or []),
        *(
            {"id": at + number, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True}
            for number, name in enumerate(names)
        ),
    ]  # fmt: skip
    config: dict[str, Any] = json.loads(model.files.get(CONFIG, "{}"))
    config["bos_token"] = tokenizer.piece(BOS)
    config.pop("additional_special_tokens", None)  # those of the file are special anyway
    template = re.sub(r"\b(" + "|".join(ROLES) + r")\b", lambda found: repr(tokenizer.piece(ROLES[found[1]])), TEMPLATE)
    texts = {"tokenizer.json": document, CONFIG: config | {"chat_template": template}}
    written = {name: json.dumps(content, ensure_ascii=False, indent=1) for name, content in texts.items()}
    return {name: text for name, text in model.files.items() if name != TEMPLATE_FILE} | written
