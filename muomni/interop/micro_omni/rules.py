"""Mapping between the keys of micro-omni and ours: one table, applied in both directions.

`{i}` in a key is the index of a block, `{n}` that of a codebook or an expert. A tensor of ours is one of theirs, or several of
theirs concatenated along the rows (fused projections); those of all indices `{n}` are stacked in one tensor of ours.

Legend: D width, G key-value heads, K head width.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Rule:
    """ours: a key of our module. theirs: the key or keys whose rows it holds, in this order."""

    ours: str
    theirs: tuple[str, ...]

    @property
    def stacked(self) -> bool:
        """True if all indices `{n}` of theirs are one tensor of ours."""
        return "{n}" in self.theirs[0]


@dataclass(frozen=True, slots=True)
class Variant:
    """One of several layouts of a component. marker: a key that only this layout has. refusal: why it is not supported."""

    name: str
    marker: str
    rules: tuple[Rule, ...] = ()
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A module's rules: those of every checkpoint, and components of which each checkpoint has one variant.

    optional: prefixes of their keys that a checkpoint may lack. own: prefixes of our keys without a counterpart.
    """

    rules: tuple[Rule, ...]
    components: tuple[tuple[Variant, ...], ...] = ()
    optional: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


def _rules(*pairs: tuple[str, ...]) -> tuple[Rule, ...]:
    return tuple(Rule(pair[0], pair[1:]) for pair in pairs)


def _linear(ours: str, theirs: str, *, joint: str = ".") -> tuple[Rule, ...]:
    return _rules(*((f"{ours}.{name}", f"{theirs}{joint}{name}") for name in ("weight", "bias")))


BLOCK = "transformer.blocks.{i}"
_NORMS = _rules(
    (f"{BLOCK}.attention_norm.weight", "blocks.{i}.norm1.weight"),
    (f"{BLOCK}.mlp_norm.weight", "blocks.{i}.norm2.weight"),
    ("transformer.norm.weight", "norm.weight"),
)
_MHA = Variant(
    "mha", "blocks.{i}.attn.qkv.weight", _rules((f"{BLOCK}.attention.qkv.weight", "blocks.{i}.attn.qkv.weight"))
)
_GQA = Variant(
    "gqa",
    "blocks.{i}.attn.q.weight",
    _rules((f"{BLOCK}.attention.qkv.weight", *(f"blocks.{{i}}.attn.{name}.weight" for name in "qkv"))),
)
_SWIGLU = Variant(
    "swiglu",
    "blocks.{i}.mlp.gate_proj.weight",
    _rules(
        (f"{BLOCK}.mlp.gate_up.weight", "blocks.{i}.mlp.gate_proj.weight", "blocks.{i}.mlp.up_proj.weight"),
        (f"{BLOCK}.mlp.down.weight", "blocks.{i}.mlp.down_proj.weight"),
    ),
)
_GELU = Variant(
    "gelu",
    "blocks.{i}.mlp.fc1.weight",
    (*_linear(f"{BLOCK}.mlp.up", "blocks.{i}.mlp.fc1"), *_linear(f"{BLOCK}.mlp.down", "blocks.{i}.mlp.fc2")),
)
_EXPERT = "blocks.{i}.moe.experts.{n}"
_MOE = Variant(
    "moe",
    "blocks.{i}.moe.router.weight",
    _rules(
        (f"{BLOCK}.mlp.router.weight", "blocks.{i}.moe.router.weight"),
        (f"{BLOCK}.mlp.experts.gate_up", f"{_EXPERT}.gate_proj.weight", f"{_EXPERT}.up_proj.weight"),
        (f"{BLOCK}.mlp.experts.down", f"{_EXPERT}.down_proj.weight"),
    ),
)
_DECODER = (*_NORMS, *_rules((f"{BLOCK}.attention.out.weight", "blocks.{i}.attn.o.weight")))

_E = "encoder."  # prefix of the encoder in our Audio, which also holds the CTC head


def _audio_attention(name: str, qkv: tuple[str, str], out: tuple[str, str]) -> Variant:
    rules = (
        *_linear(f"{_E}{BLOCK}.attention.qkv", f"blocks.{{i}}.{qkv[0]}", joint=qkv[1]),
        *_linear(f"{_E}{BLOCK}.attention.out", f"blocks.{{i}}.{out[0]}", joint=out[1]),
    )
    return Variant(name, rules[0].theirs[0], rules)


def _stem(name: str, *convolutions: str) -> Variant:
    pairs = [_linear(f"{_E}stem.convs.{number}", theirs) for number, theirs in enumerate(convolutions)]
    return Variant(name, f"{convolutions[0]}.weight", tuple(rule for pair in pairs for rule in pair))


#: Our module -> its rules.
TABLES = {
    "thinker": Table(
        (*_rules(("embedding.weight", "tok_emb.weight"), ("head.weight", "lm_head.weight")), *_DECODER),
        components=((_MHA, _GQA), (_SWIGLU, _GELU, _MOE)),
    ),
    "audio": Table(
        (
            *_linear(f"{_E}stem.proj", "proj"),
            *(Rule(f"{_E}{rule.ours}", rule.theirs) for rule in _NORMS),
            *_linear(f"{_E}{BLOCK}.mlp.up", "blocks.{i}.mlp.0"),
            *_linear(f"{_E}{BLOCK}.mlp.down", "blocks.{i}.mlp.2"),
            *_linear("head", "head"),
        ),
        components=(
            (_stem("4x", "down.net.0", "down.net.2"), _stem("8x", "down.0.net.0", "down.0.net.2", "down.1")),
            (
                _audio_attention("current", ("qkv_proj", "."), ("out_proj", ".")),
                _audio_attention("older", ("attn.in_proj", "_"), ("attn.out_proj", ".")),
            ),
        ),
        optional=("head.",),
    ),
    "vision": Table(
        (
            *_rules(("cls", "cls"), ("positions", "pos"), ("transformer.norm.weight", "norm.weight")),
            *_linear("stem.project", "proj"),
            *_linear(f"{BLOCK}.attention_norm", "blocks.{i}.norm1"),
            *_linear(f"{BLOCK}.mlp_norm", "blocks.{i}.norm2"),
            *_linear(f"{BLOCK}.attention.qkv", "blocks.{i}.self_attn.in_proj", joint="_"),
            *_linear(f"{BLOCK}.attention.out", "blocks.{i}.self_attn.out_proj"),
            *_linear(f"{BLOCK}.mlp.up", "blocks.{i}.linear1"),
            *_linear(f"{BLOCK}.mlp.down", "blocks.{i}.linear2"),
        )
    ),
    "codec": Table(
        (
            *_rules(("quantizer.codebooks", "codebooks.{n}.weight")),
            *_linear("encoder.proj", "proj_in"),
            *_linear("decoder.proj", "proj_out"),
        ),
        own=("quantizer.",),  # moving averages of the codebooks
    ),
    "talker": Table(
        (
            *_rules(("start", "start"), ("code_embedding.weight", "emb.weight")),
            *_linear("heads.0", "base_head"),
            *_linear("heads.1", "res_head"),
            *_DECODER,
        ),
        components=(
            (_MHA, replace(_GQA, refusal="its attention is grouped (attn.q, attn.k, attn.v), our Talker's is not")),
            (
                _SWIGLU,
                replace(_GELU, refusal="its MLPs are GELU (mlp.fc1, mlp.fc2), our Talker's are SwiGLU"),
                replace(_MOE, refusal="it is a mixture of experts (moe.*), our Talker is not"),
            ),
        ),
        own=("text.", "stop."),
    ),
    "image_projector": Table(_linear("layers", "", joint="")),
    "audio_projector": Table(_linear("layers", "", joint="")),
}


def match_layout(module: str, keys: Iterable[str]) -> tuple[list[str], tuple[Rule, ...]]:
    """The names of a checkpoint's variants and all rules of the module, by the checkpoint's keys.

    Raises ValueError (without the file's name) for an unsupported variant, and for a component without any.
    """
    table, keys = TABLES[module], list(keys)
    names, rules = [], list(table.rules)
    for component in table.components:
        matches = [variant for variant in component if any(_pattern(variant.marker).fullmatch(key) for key in keys)]
        for variant in matches:
            if variant.refusal:
                raise ValueError(variant.refusal)
        if not matches:
            known = " or ".join(variant.marker.format(i=0) for variant in component if not variant.refusal)
            raise ValueError(f"of unknown layout: it lacks {known}")
        names.append(matches[0].name)
        rules += matches[0].rules
    return names, tuple(rules)


def rules_of_layout(module: str, names: Iterable[str]) -> tuple[Rule, ...]:
    """All rules of a module with the variants of these names."""
    wanted = set(names)
    chosen = [variant for component in TABLES[module].components for variant in component if variant.name in wanted]
    return (*TABLES[module].rules, *(rule for variant in chosen for rule in variant.rules))


def to_theirs(state: Mapping[str, Tensor], rules: Iterable[Rule]) -> tuple[State, State]:
    """Our state -> theirs, and the tensors without a rule under our keys."""
    theirs: State = {}
    rest = dict(state)
    for rule in rules:
        pattern = _pattern(rule.ours)
        for key in [key for key in rest if pattern.fullmatch(key)]:
            tensor, numbers = rest.pop(key), _numbers(pattern, key)
            for n, value in enumerate(tensor if rule.stacked else [tensor]):
                names = [name.format(**(numbers | {"n": n})) for name in rule.theirs]
                theirs |= dict(zip(names, _split(value, len(names)), strict=True))
    return theirs, rest


def to_ours(state: Mapping[str, Tensor], rules: Iterable[Rule]) -> State:
    """Their state -> ours. Tensors without a rule, or with an incomplete set of a rule's keys, are dropped: compare the keys
    first."""
    ours: State = {}
    for rule in rules:
        pattern = _pattern(rule.theirs[0])
        found: dict[str, dict[int, Tensor]] = {}
        for key in [key for key in state if pattern.fullmatch(key)]:
            numbers = _numbers(pattern, key)
            names = [name.format(**numbers) for name in rule.theirs]
            if all(name in state for name in names):
                fused = torch.cat([state[name] for name in names])
                found.setdefault(rule.ours.format(**numbers), {})[int(numbers.get("n", 0))] = fused
        for key, each in found.items():
            ours[key] = torch.stack([each[n] for n in sorted(each)]) if rule.stacked else each[0]
    return ours


def _split(tensor: Tensor, count: int) -> tuple[Tensor, ...]:
    """Rows of a fused projection: gate and up are equally large; of query, key and value (D + 2 G K, D) the query has D
    rows."""
    if count == 3:
        queries = tensor.shape[1]
        others = (tensor.shape[0] - queries) // 2
        return tensor.split((queries, others, others))
    return tensor.chunk(count)


def _pattern(key: str) -> re.Pattern[str]:
    return re.compile(re.escape(key).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\{n\}", r"(?P<n>\d+)"))


def _numbers(pattern: re.Pattern[str], key: str) -> dict[str, str]:
    match = pattern.fullmatch(key)
    return {} if match is None else match.groupdict()
