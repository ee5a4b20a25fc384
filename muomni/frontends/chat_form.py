"""How the turns of a conversation are written: ours, and those of pretrained models, recognised in their chat templates.

A chat template is a program (Jinja) of someone else: it is read, never run. The common ones write the same few strings around
the system's, the user's and the assistant's text; which those are is told by the markers in the template. A form is plain
data: strings in which special tokens are written out, and which travel in an export's tokenizer.json. The tokenizer turns
them into ids (`HFTokenizerModel`); the text of a user never becomes a special token.

    begin [system] user-before text user-after assistant-before answer EOS between user-before ..
"""

import re
from dataclasses import asdict, dataclass
from typing import Any

from muomni.special_tokens import ASSISTANT, BOS, PIECES, SYSTEM, USER


@dataclass(frozen=True, kw_only=True)
class ChatForm:
    """Strings with special tokens written out.

    system, user: before and after the text. assistant: before the answer. answer: before it, if the tokenizer puts no space
    there of its own; not prompted, since it belongs to the first piece. between: after an answer's EOS, before the next turn.
    default_system: the text where none is given; None: no system turn then. joins_system: the system's text begins the first
    user's turn, with this after it, in place of a turn of its own. trims: white space at the ends of the system's and
    the assistant's text is left out, too. end: the special token that ends an answer, where it is not the tokenizer's eos.
    """

    name: str
    begin: str
    system: tuple[str, str]
    user: tuple[str, str]
    assistant: str
    answer: str = ""
    between: str = ""
    default_system: str | None = None
    joins_system: str | None = None
    trims: bool = False
    end: str | None = None

    @classmethod
    def read(cls, data: Any) -> "ChatForm":
        """Of plain data, as `asdict` writes it. Raises ValueError for anything else."""
        try:
            known: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in data.items()}
            form = cls(**known)
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not the form of a conversation: {error}") from error
        pairs, strings = (form.system, form.user), (form.begin, form.assistant, form.answer, form.between)
        optional = (form.default_system, form.joins_system, form.end)
        if (
            any(len(pair) != 2 or not all(isinstance(each, str) for each in pair) for pair in pairs)
            or not all(isinstance(each, str) for each in strings)
            or not all(each is None or isinstance(each, str) for each in optional)
        ):
            raise ValueError("not the form of a conversation: it is made of strings")
        return form

    def data(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


NATIVE = ChatForm(
    name="muomni", begin=PIECES[BOS], system=(PIECES[SYSTEM], ""), user=(PIECES[USER], ""), assistant=PIECES[ASSISTANT]
)
#: The templates that are recognised, by a marker that no other has, in the order in which they are tried.
KNOWN = {"<|im_start|>": "ChatML", "<|start_header_id|>": "Llama 3", "<start_of_turn>": "Gemma", "[INST]": "Mistral"}


def recognise(template: str, *, bos: str | None) -> ChatForm | None:
    """The form that a chat template writes, None for one that is not known. bos: the written form of the tokenizer's bos."""
    template = template.replace("\\n", "\n")
    name = next((known for marker, known in KNOWN.items() if marker in template), None)
    if name is None:
        return None
    begins = bos is not None and ("bos_token" in template or (bos in template and bos != "<|im_start|>"))
    return {"ChatML": _chatml, "Llama 3": _llama3, "Gemma": _gemma, "Mistral": _mistral}[name](
        template, bos if begins and bos is not None else ""
    )


def _chatml(template: str, begin: str) -> ChatForm:
    """Qwen, SmolLM2 and others; some write a system turn of their own where the user gives none."""
    default = re.search(r"['\"]<\|im_start\|>system\n([^'\"{}]+)<\|im_end\|>\n['\"]", template)
    return ChatForm(
        name="ChatML", begin=begin, system=("<|im_start|>system\n", "<|im_end|>\n"),
        user=("<|im_start|>user\n", "<|im_end|>\n"), assistant="<|im_start|>assistant\n", between="\n",
        default_system=None if default is None else default[1],
    )  # fmt: skip


def _llama3(template: str, begin: str) -> ChatForm:
    """Since 3.1 with a system turn that names two dates; today's is the one that the template falls back on."""
    before, after = "<|start_header_id|>{}<|end_header_id|>\n\n", "<|eot_id|>"
    dated, today = "Cutting Knowledge Date" in template, re.search(r"date_string = \"([^\"]+)\"", template)
    dates = f"Cutting Knowledge Date: December 2023\nToday Date: {today[1] if today else '26 Jul 2024'}\n\n"
    return ChatForm(
        name="Llama 3", begin=begin, system=(before.format("system") + (dates if dated else ""), after),
        user=(before.format("user"), after), assistant=before.format("assistant"),
        default_system="" if dated else None, trims=True, end="<|eot_id|>",
    )  # fmt: skip


def _gemma(template: str, begin: str) -> ChatForm:
    return ChatForm(
        name="Gemma", begin=begin, system=("", ""), user=("<start_of_turn>user\n", "<end_of_turn>\n"),
        assistant="<start_of_turn>model\n", between="\n", joins_system="\n\n", trims=True, end="<end_of_turn>",
    )  # fmt: skip


def _mistral(template: str, begin: str) -> ChatForm:
    """Its versions differ in the spaces around the markers and before the answer."""
    spaced_before = re.search(r"\[INST\] ", template) is not None
    spaced_after = re.search(r" \[/INST\]", template) is not None
    spaced_answer = (
        re.search(r"['\"] ['\"] ?[+~] ?message|\[/INST\] ['\"]|['\"] ['\"] \+ message", template) is not None
    )
    return ChatForm(
        name="Mistral", begin=begin, system=("", ""), assistant="", answer=" " if spaced_answer else "",
        user=("[INST] " if spaced_before else "[INST]", " [/INST]" if spaced_after else "[/INST]"),
        joins_system="\n\n",
    )  # fmt: skip
