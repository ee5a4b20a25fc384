"""How a tokenizer.json splits a text into words -> llama.cpp's name for it.

llama.cpp has the expressions in its source and a name in the file, so only those in the table can leave. A tokenizer is told by
what it says, not by the name of a model: byte-level BPE trained on other texts with the same splitting has the same name.
"""

from typing import Any

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

#: Expressions of a Split -> name.
SPLITS = {
    rf"{CONTRACTIONS}|{WORDS}|\p{{N}}{{1,3}}|{REST}": "llama-bpe",
    rf"{CONTRACTIONS}|{WORDS}|\p{{N}}|{REST}": "qwen2",
    rf"{UPPER}*{LOWER}+|{UPPER}+{LOWER}*|\p{{N}}|{SIGNS}": "tekken",
    rf"{UPPER}*{LOWER}+{CONTRACTIONS}?|{UPPER}+{LOWER}*{CONTRACTIONS}?|\p{{N}}{{1,3}}|{SIGNS}": "gpt-4o",
}
#: Normalizations that llama.cpp does not compute and its own converter passes over: texts are in this form nearly always.
HARMLESS = (None, "NFC")
KNOWN = "those of GPT-2, SmolLM, Qwen2, Llama 3, Mistral's Tekken and GPT-4o"


def pre_tokenizer(document: dict[str, Any]) -> str:
    """llama.cpp's name for the splitting of a tokenizer.json. Raises ValueError where it has none."""
    normalizer = document.get("normalizer")
    if (normalizer or {}).get("type") not in HARMLESS:
        raise ValueError(f"tokenizer.json: llama.cpp has no normalizer {_said(normalizer)} for byte-level BPE")
    steps = _steps(document.get("pre_tokenizer"))
    name = _name(steps)
    if name is None:
        raise ValueError(
            f"tokenizer.json: llama.cpp has no pre-tokenizer for {_said(document.get('pre_tokenizer'))}; it has {KNOWN}"
        )
    return name


def _steps(pre: dict[str, Any] | None) -> list[dict[str, Any]]:
    if pre is None:
        return []
    return list(pre.get("pretokenizers") or ()) if pre.get("type") == "Sequence" else [pre]


def _name(steps: list[dict[str, Any]]) -> str | None:
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return None
    uses_regex = steps[-1].get("use_regex", True)
    types = [step.get("type") for step in steps[:-1]]
    if not types:
        return "gpt-2" if uses_regex else None
    if types == ["Digits"] and steps[0].get("individual_digits"):
        return "smollm" if uses_regex else None
    if types == ["Split"] and not uses_regex and not steps[0].get("invert") and steps[0].get("behavior") == "Isolated":
        return SPLITS.get(str((steps[0].get("pattern") or {}).get("Regex")))
    return None


def puts_space(document: dict[str, Any]) -> bool:
    """Whether a tokenizer.json made of a SentencePiece model puts a space before a text. Raises ValueError for
    one that does more."""
    normalizer, pre = document.get("normalizer"), document.get("pre_tokenizer")
    steps = (
        list((normalizer or {}).get("normalizers") or ())
        if (normalizer or {}).get("type") == "Sequence"
        else [normalizer]
    )
    types = [(step or {}).get("type") for step in steps]
    plain_split = pre is None or (pre.get("type") == "Split" and pre.get("pattern") == {"String": " "})
    if types == ["Prepend", "Replace"] and pre is None:
        return True
    if types == ["Replace"] and plain_split:
        return False
    if types == [None] and (pre or {}).get("type") == "Metaspace":
        return (pre or {}).get("prepend_scheme", "always") != "never"
    raise ValueError(f"tokenizer.json: llama.cpp has no {_said(normalizer)} with {_said(pre)}")


def _said(part: Any) -> str:
    text = str(part)
    return text if len(text) <= 160 else f"{text[:157]}..."
