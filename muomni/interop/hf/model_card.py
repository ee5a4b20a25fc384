"""README.md of a Hugging Face folder: what the model is, what was measured, how it is used, and under which licence."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: What a card says of the licence where none was given (an identifier of the hub).
UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class About:
    """What people say of a model. license: an identifier of the hub, such as mit or apache-2.0. languages: codes, such as en."""

    name: str
    author: str = ""
    description: str = ""
    license: str = UNKNOWN
    languages: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of it. architecture: its class. metadata: of the export. journal: run.json. staying: modules of the export
    that stay. text_form: how texts are written before the tokenizer reads them. has_chat: whether there is a chat template.
    library: that loads it."""

    architecture: str
    dtype: str
    parameters: int
    context: int
    metadata: Mapping[str, Any]
    metrics: Mapping[str, float] = field(default_factory=dict)
    journal: Mapping[str, Any] = field(default_factory=dict)
    staying: Sequence[str] = ()
    text_form: str | None = None
    has_chat: bool = True
    library: str = "transformers"


def write_card(about: About, facts: Facts) -> str:
    """The text of README.md."""
    sections = [
        _header(about, facts), f"# {about.name}\n", _summary(about, facts), _use(facts), LIMITS, _training(facts),
        _measured(facts.metrics), _staying(facts), _licence(about),
    ]  # fmt: skip
    return "\n".join(section for section in sections if section)


def _header(about: About, facts: Facts) -> str:
    """YAML, every value a string or a list of strings, written as JSON is: it is YAML, too, and nothing needs quoting rules."""
    lines: dict[str, Any] = {"license": about.license, "library_name": facts.library, "pipeline_tag": "text-generation"}
    if about.languages:
        lines["language"] = list(about.languages)
    lines["tags"] = ["muomni", facts.architecture]
    return "\n".join(
        ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in lines.items()), "---", ""]
    )


def _summary(about: About, facts: Facts) -> str:
    by = f" by {about.author}" if about.author else ""
    said = f"{about.description}\n\n" if about.description else ""
    languages = f" Languages: {', '.join(about.languages)}." if about.languages else ""
    return (
        f"{said}A language model of {facts.parameters:,} parameters{by}, written by muomni. Its architecture is "
        f"{facts.architecture}, its context {facts.context:,} tokens, its numbers are {facts.dtype}.{languages}\n"
    )


def _use(facts: Facts) -> str:
    if facts.library == "mlx":
        return "## Use\n\n```sh\npip install mlx-lm\nmlx_lm.generate --model . --prompt '...'\n```\n"
    prompt = CHAT if facts.has_chat else 'prompt = tokenizer("...", return_tensors="pt")'
    return f"## Use\n\n```python\n{LOAD}{prompt}\n{ANSWER}```\n\nNo code of this folder is executed (no `trust_remote_code`).\n"


LOAD = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # or the name of the repository
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
"""
CHAT = """\
prompt = tokenizer.apply_chat_template(
    [{"role": "user", "content": "..."}], add_generation_prompt=True, return_tensors="pt", return_dict=True
)"""
ANSWER = """\
answer = model.generate(**prompt, max_new_tokens=100)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
"""
LIMITS = """\
## Intended use and limits

For research, teaching and experiments with small models. It knows what its training texts say and nothing else, is confident
when it is wrong, and was not tested for bias or safety: nothing that matters to people should be decided by it. Special tokens
that are written out in a text are read as special tokens.
"""


def _training(facts: Facts) -> str:
    run = facts.metadata.get("run")
    run = run if isinstance(run, Mapping) else {}
    origin = facts.metadata.get("hf")
    rows = {
        "begun with the weights of": origin.get("source") if isinstance(origin, Mapping) else None,
        "stage": facts.metadata.get("stage"), "size": run.get("size"), "budget": run.get("budget"),
        "identity of the run": run.get("identity"), "steps": facts.journal.get("steps"),
        "command": facts.journal.get("command"), "tokenizer (sha256)": facts.metadata.get("tokenizer"),
    }  # fmt: skip
    known = [f"| {name} | {_cell(value)} |" for name, value in rows.items() if value is not None]
    form = (
        f"\nTexts were written as `{facts.text_form}` before they were tokenized: write yours so, too.\n"
        if facts.text_form not in (None, "as_is")
        else ""
    )
    return "\n".join(["## Training\n", "| | |", "|---|---|", *known, form])


def _measured(metrics: Mapping[str, float]) -> str:
    if not metrics:
        return ""
    rows = [f"| {_cell(name)} | {value:.4g} |" for name, value in sorted(metrics.items())]
    return "\n".join(
        [
            "## Measured\n",
            "On held-out data, by the run that trained it.\n",
            "| metric | value |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def _staying(facts: Facts) -> str:
    if not facts.staying:
        return ""
    return (
        f"## What is not here\n\nThe language model alone left the muomni export; its {', '.join(facts.staying)} did not, so it "
        "reads and writes text here.\n"
    )


def _licence(about: About) -> str:
    known = f"The weights are under the licence `{about.license}`."
    return "## Licence\n\n" + (known if about.license != UNKNOWN else "Not stated: ask whoever made it.") + "\n"


def _cell(value: Any) -> str:
    return " ".join(str(value).replace("|", "\\|").split())
