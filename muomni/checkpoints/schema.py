"""Schema of an export's description: types and bounds of the options of every module and of the metadata.

A description is a few hundred untrusted bytes from which gigabytes may be allocated. So it is first copied into plain data of
bounded size (aliases cannot multiply, depth is limited, no number is NaN), then each option and fact is checked against the
table, and only then modules are built. The bounds are far beyond what this project trains, and small enough that a wrong number
allocates little.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from muomni.short_repr import shown

MOST_BYTES = 1 << 18  # of a description
MOST_ENTRIES = 20_000  # values in it, aliases counted each time
DEEPEST = 16
LARGEST_INTEGER = 1 << 63


@dataclass(frozen=True, slots=True)
class Bound:
    """A value of `kind` from `least` to `most`, or None if `null`, or a table if `table`; with `many` a list of at most that
    many."""

    kind: type
    least: float = 0
    most: float = 0
    null: bool = False
    many: int = 0
    table: bool = False

    def allows(self, value: Any) -> bool:
        """Whether a value has the type and is within the bounds."""
        if self.many and isinstance(value, list | tuple):
            return len(value) <= self.many and all(self._allows_one(each) for each in value)
        special = (value is None and self.null) or (isinstance(value, dict) and self.table)
        return special or (not self.many and self._allows_one(value))

    def _allows_one(self, value: Any) -> bool:
        if self.kind in (str, bool, dict):
            return isinstance(value, self.kind)
        right_kind = isinstance(value, int if self.kind is int else int | float) and not isinstance(value, bool)
        return right_kind and self.least <= value <= self.most

    def __str__(self) -> str:
        words = {str: "a string", bool: "true or false", dict: "a table of names and values"}
        span = f"from {self.least:g} to {self.most:g}"
        one = words.get(self.kind, f"a whole number {span}" if self.kind is int else f"a number {span}")
        listed = f"a list of at most {self.many}, each {one}" if self.many else one
        return f"{listed}, or null" if self.null else f"{listed}, or a table" if self.table else listed


_NAME, _SWITCH = Bound(str), Bound(bool)
#: Bounds of the options of all modules (models/): a bound, and the names of its options.
_BOUNDS = (
    (Bound(int, 0, 1023), "conv_kernel"),
    (Bound(int, 0, 1 << 16), "chunk right_context state_width"),
    (Bound(int, 0, 1 << 16, null=True), "left_context"),
    (Bound(int, 0, 1024), "encoder_layers frame_layers num_blocks num_experts num_layers short_conv text_layers"),
    (Bound(int, 0, 1023, many=1024), "full_attention"),
    (Bound(int, 1, 256), "grid num_codebooks stack stride"),
    (Bound(int, 1, 1023), "kernel text_kernel"),
    (Bound(int, 1, 1024), "experts_per_token n_mels num_heads num_kv_heads patch stem_patch"),
    (Bound(int, 1, 4096), "channels image_size stem_width"),
    (Bound(int, 1, 4096, many=8), "stem_channels widths"),
    (Bound(int, 1, 4096, null=True), "head_dim"),
    (Bound(int, 1, 1 << 14), "hop"),
    (Bound(int, 1, 1 << 16), "cell dim embed_dim max_characters num_speakers out_dim width"),
    (Bound(int, 1, 1 << 18), "ff_dim"),
    (Bound(int, 1, 1 << 18, null=True), "hidden"),
    (Bound(int, 1, 1 << 20), "codebook_size max_frames max_length num_symbols"),
    (Bound(int, 1, 1 << 20, null=True), "window"),
    (Bound(int, 1, 1 << 22), "vocab_size"),
    (Bound(int, 2, 8), "downsample"),
    (Bound(int, 2, 64), "overlap"),
    (Bound(int, 1000, 384_000), "sample_rate"),
    (Bound(float, 0, 1), "dropout idle norm_eps qk_norm_eps text_dropout"),
    (Bound(float, 0, 1, null=True), "decay"),
    (Bound(float, 0, 1000), "positions start_std"),
    (Bound(float, 0, 1e6), "scale"),
    (Bound(float, 1e-3, 1e4), "embedding_scale"),
    (Bound(float, 1e-6, 1e3, null=True), "attention_scale"),
    (Bound(float, 1e-3, 1e6, table=True), "rope_scaling"),
    (Bound(float, 1, 1e12, null=True), "local_rope_theta rope_theta"),
    (_NAME, "alignment conditioning image_tokens mlp model_type norm pattern pool quantizer reads"),
    (Bound(int, 1, 8), "hf_audio.downsample"),
    (Bound(int, 0, 1 << 20), "hf_audio.num_symbols"),
    (
        _SWITCH,
        "learned_positions norm_topk_prob out_bias output_norm qk_norm qkv_bias shared_embedding speaker_vector tied words",
    ),
    (Bound(str, null=True), "characters"),
    (Bound(dict), "config"),  # of a class of transformers; its fields: models/hf_build.py, models/hf_config.py
    (Bound(int, 0, 1 << 20), "audio_projector.characters"),  # a number here, a string elsewhere
)
#: The same by name, or by module and name where a name has two meanings.
OPTIONS = {name: bound for bound, names in _BOUNDS for name in names.split()}
#: Options that repeat a submodule: each repetition has at least one tensor.
REPEATS = ("num_layers", "text_layers", "encoder_layers", "frame_layers", "num_codebooks", "num_experts", "num_blocks")

_SAMPLES = Bound(int, 1, 1 << 16)
_MEL = {
    "sample_rate": Bound(int, 1000, 384_000), "hop": _SAMPLES, "n_fft": _SAMPLES, "win": _SAMPLES, "bins": Bound(int, 1, 1024),
    "f_min": Bound(float, 0, 1e6), "f_max": Bound(float, 0, 1e6), "log": _SWITCH, "floor": Bound(float, 1e-30, 1e3),
    "kind": _NAME, "window": Bound(int, 1, 1 << 26, null=True),
}  # fmt: skip
#: Bounds of the metadata that this project reads, by name; nested for tables. Other metadata is plain data and ignored.
METADATA: dict[str, Bound | dict[str, Bound]] = {
    "stage": Bound(str, null=True),
    "tokenizer": Bound(str, null=True),
    "codec": Bound(str, null=True),
    "talker_thinker": Bound(str, null=True),
    "alphabet": _NAME,
    "characters": Bound(str, null=True),
    "corrections": Bound(int, 0, 1000),
    "mel": _MEL,
    "codec_mel": _MEL,
    "codec_audio": {"sample_rate": Bound(int, 1000, 384_000), "hop": _SAMPLES},
    "image": {
        "size": Bound(int, 1, 4096), "mean": Bound(float, -1e3, 1e3, many=3), "std": Bound(float, 0, 1e3, many=3), "fit": _NAME,
        "interpolation": _NAME, "resize": Bound(int, 1, 1 << 14, null=True),
    },
    "run": {
        "size": _NAME, "budget": _NAME, "level": Bound(float, 0, 1000), "identity": _NAME, "changes": Bound(dict),
        "from": Bound(dict),
    },
    "micro_omni": {
        "files": Bound(str, many=1000), "layout": Bound(dict), "dtype": Bound(dict), "new": Bound(str, many=MOST_ENTRIES),
        "added_pieces": Bound(int, 0, 1 << 20),
    },
}  # fmt: skip


class _Loader(yaml.SafeLoader):
    """Loader of bounded size and depth, without merge keys, which multiply during parsing."""

    depth, count = 0, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node and its children, and count them."""
        self.depth, self.count = self.depth + 1, self.count + 1
        if self.depth > DEEPEST or self.count > MOST_ENTRIES:
            raise yaml.YAMLError(_TOO_LARGE)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def flatten_mapping(self, node: Any) -> None:
        """Called for every mapping, where merge keys would be resolved."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.YAMLError("merge keys (<<) are not read")


_TOO_LARGE = f"more than {MOST_ENTRIES} values, or more than {DEEPEST} within each other"


def read_yaml(text: str, *, where: str) -> Any:
    """YAML of bounded size -> plain data. Raises ValueError."""
    if len(text) > MOST_BYTES:
        raise ValueError(f"{where}: not readable as YAML: {len(text)} characters, at most {MOST_BYTES}")
    try:
        content = yaml.load(text, Loader=_Loader)
    except Exception as error:  # besides YAMLError, the constructors of numbers and dates raise various errors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{where}: not readable as YAML: {reason[:300]}") from error
    return plain_data(content, where=where)


def plain_data(content: Any, *, where: str) -> Any:
    """A copy of strings, numbers, booleans, lists and tables. Raises ValueError naming the key of any other type or of a
    non-finite number, and if there are too many values."""
    left = MOST_ENTRIES

    def copy(value: Any, place: tuple[str, ...]) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or len(place) > DEEPEST:
            raise ValueError(f"{where}: {_TOO_LARGE}")
        if isinstance(value, dict):
            strange = [key for key in value if not isinstance(key, str)]
            if strange:
                raise ValueError(f"{where}: {_named(place)}{str(strange[0])[:40]!r} is no name")
            return {key: copy(inner, (*place, key)) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [copy(inner, (*place, str(index))) for index, inner in enumerate(value)]
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{where}: {'.'.join(place)} is {value}; the export is damaged")
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise ValueError(
                f"{where}: {'.'.join(place)} is a number of {value.bit_length()} bits; the export is damaged"
            )
        if value is not None and not isinstance(value, str | int | float | bool):
            raise ValueError(f"{where}: {'.'.join(place)} is a {type(value).__name__}: neither name, number nor list")
        return value

    return copy(content, ())


def _named(place: tuple[str, ...]) -> str:
    return f"{'.'.join(place)}: " if place else ""


def bound_of(kind: str, name: str) -> Bound | None:
    """The bound of a module's option; None if it is unknown."""
    return OPTIONS.get(f"{kind}.{name}", OPTIONS.get(name))


def check_options(kind: str, options: Mapping[str, Any], *, tensors: int | None, where: str) -> None:
    """Raise ValueError naming the first option of a module that is out of bounds.

    tensors: number of the module's tensors in the file, None if it is yet to be trained.
    """
    for name, value in options.items():
        bound = bound_of(kind, name)
        if bound is not None and not bound.allows(value):
            raise ValueError(f"{where}: options do not fit {kind}: {name}={shown(value)}: {bound}")
        if tensors is not None and name in REPEATS and value > max(tensors, 1):
            raise ValueError(
                f"{where}: options do not fit {kind}: {name}={value}, but the file holds {tensors} tensors of it"
            )


def check_metadata(metadata: Mapping[str, Any], *, where: str) -> None:
    """Raise ValueError naming the first fact of a wrong type or out of bounds."""
    for name, bound in METADATA.items():
        if name not in metadata:
            continue
        value = metadata[name]
        if isinstance(bound, Bound):
            _check_entry(name, value, bound, where=where)
            continue
        _check_entry(name, value, Bound(dict), where=where)
        for key, inner in bound.items():
            if key in value:
                _check_entry(f"{name}.{key}", value[key], inner, where=where)


def _check_entry(name: str, value: Any, bound: Bound, *, where: str) -> None:
    if not bound.allows(value):
        fact, _, key = name.partition(".")
        given = f"{key}={shown(value)}" if key else shown(value)
        raise ValueError(f"{where}: the facts of {fact!r} are damaged: {given}: {bound}")
