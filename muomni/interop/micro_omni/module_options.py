"""Options of our modules, inferred from the tensor shapes of micro-omni's checkpoints; the others are assumed.

The number of heads, the base of the rotary positions and the maximum length cannot be inferred; micro-omni keeps them in its
JSON files. ASSUMED holds its published values; the caller may give others.

Legend: D width, G key-value heads, K head width, M mel bins, R downsampling, E entries of a codebook.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from muomni.frontends.char_vocab import NUM_LOGITS
from muomni.interop.micro_omni.rules import TABLES

HEAD_WIDTH = 64  # of every published configuration

#: Module -> options that cannot be inferred. num_heads None: the width / HEAD_WIDTH.
ASSUMED: dict[str, dict[str, Any]] = {
    "thinker": {"num_heads": None, "rope_theta": 10000.0, "max_length": 512, "experts_per_token": 2},
    "audio": {"num_heads": None},
    "vision": {"num_heads": None},
    "codec": {},
    # Beyond heads and positions: our text conditioning, which micro-omni lacks; values of the published size.
    "talker": {
        "num_heads": None, "rope_theta": 10000.0, "max_frames": 1000, "num_symbols": NUM_LOGITS, "num_speakers": 1,
        "text_layers": 2, "text_kernel": 5,
    },
    "image_projector": {},
    "audio_projector": {},
}  # fmt: skip

#: Module -> option -> the tensor that tells it: key, number of axes, axis.
AXES: dict[str, dict[str, tuple[str, int, int]]] = {
    "thinker": {"vocab_size": ("tok_emb.weight", 2, 0), "dim": ("tok_emb.weight", 2, 1)},
    "audio": {"dim": ("proj.weight", 2, 0), "ff_dim": ("blocks.0.mlp.0.weight", 2, 0)},
    "vision": {
        "dim": ("proj.weight", 4, 0), "patch": ("proj.weight", 4, 2), "ff_dim": ("blocks.0.linear1.weight", 2, 0),
    },
    "codec": {
        "codebook_size": ("codebooks.0.weight", 2, 0), "dim": ("codebooks.0.weight", 2, 1), "n_mels": ("proj_in.weight", 2, 1),
    },
    "talker": {
        "codebook_size": ("emb.weight", 2, 0), "dim": ("emb.weight", 2, 1),
        "ff_dim": ("blocks.0.mlp.gate_proj.weight", 2, 0),
    },
    "image_projector": {"dim": ("weight", 2, 1), "out_dim": ("weight", 2, 0)},
    "audio_projector": {"dim": ("weight", 2, 1), "out_dim": ("weight", 2, 0)},
}  # fmt: skip

#: Module -> options with a single value in micro-omni: set by an import, required by an export.
FIXED: dict[str, dict[str, Any]] = {
    "thinker": {
        "qk_norm": False,
        "window": None,
        "short_conv": 0,
        "rope_scaling": 1.0,
        "norm_eps": 1e-5,
        "head_dim": None,
        "norm": "rms",
        "output_norm": False,
        "qkv_bias": False,
        "out_bias": False,
        "attention_scale": None,
        "embedding_scale": 1.0,
        "learned_positions": False,
        "norm_topk_prob": True,
    },
    "audio": {
        "conv_kernel": 0,
        "rope_theta": None,
        "norm_eps": 1e-5,
        "characters": None,
        "chunk": 0,
        "right_context": 0,
        "left_context": None,
    },
    "vision": {"stem_channels": [], "norm_eps": 1e-5},
    "codec": {"num_layers": 0, "stride": 1},
    "talker": {
        "num_codebooks": 2,
        "shared_embedding": True,
        "norm_eps": 1e-5,
        "characters": None,
        "alignment": "free",
        "speaker_vector": False,
        "text_dropout": 0.0,
        "pattern": "parallel",
        "reads": "letters",
        "conditioning": "text",
        "state_width": 0,
    },
    "image_projector": {"image_tokens": "cls", "hidden": None, "positions": 0.0},
    "audio_projector": {"stack": 1, "characters": 0, "hidden": None, "words": False},
}


class Shapes:
    """Shapes in a state dict of theirs. A missing key, or another number of dimensions, is a ValueError that names it."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state

    def of(self, key: str, ndim: int) -> tuple[int, ...]:
        """The shape of a tensor with `ndim` dimensions."""
        if key not in self.state:
            raise ValueError(f"missing keys [{key!r}]")
        shape = tuple(self.state[key].shape)
        if len(shape) != ndim:
            raise ValueError(f"{key} has shape {shape}, expected {ndim} dimensions")
        return shape

    def count(self, pattern: str) -> int:
        """The count n of indices 0..n-1 in the group of keys that match the pattern. Raises ValueError if an index is
        missing."""
        found = {match[1] for key in self.state if (match := re.match(pattern, key))}
        missing = [number for number in range(len(found)) if str(number) not in found]
        if missing:
            example = re.sub(r"\\(.)", r"\1", pattern).replace("(d+)", str(missing[0]))
            raise ValueError(f"missing keys [{example!r}]: there are {len(found)}, not numbered from 0 on")
        return len(found)


def _heads(module: str, dim: int, num_heads: int | None) -> int:
    if num_heads is None:
        num_heads = dim // HEAD_WIDTH
        if dim % HEAD_WIDTH:
            raise ValueError(f"its width {dim} is not a multiple of {HEAD_WIDTH}: give {module}.num_heads=N")
    if num_heads < 1 or dim % num_heads:
        raise ValueError(f"{module}.num_heads={num_heads} does not divide its width {dim}")
    return num_heads


def _thinker(shapes: Shapes, dim: int, heads: int) -> dict[str, Any]:
    kv_heads = heads
    if "blocks.0.attn.k.weight" in shapes.state:
        rows = shapes.of("blocks.0.attn.k.weight", 2)[0]
        kv_heads, rest = divmod(rows, dim // heads)
        if rest or not kv_heads or heads % kv_heads:
            raise ValueError(
                f"blocks.0.attn.k.weight has {rows} rows, which thinker.num_heads={heads} heads of {dim // heads} do not fit"
            )
    experts = shapes.count(r"blocks\.0\.moe\.experts\.(\d+)\.")
    gelu = "blocks.0.mlp.fc1.weight" in shapes.state
    mlp = "moe.experts.0.gate_proj" if experts else "mlp.fc1" if gelu else "mlp.gate_proj"
    return {
        "num_kv_heads": kv_heads, "ff_dim": shapes.of(f"blocks.0.{mlp}.weight", 2)[0],
        "mlp": "gelu" if gelu else "swiglu", "num_experts": experts,
    }  # fmt: skip


def _audio(shapes: Shapes, dim: int, heads: int) -> dict[str, Any]:
    eightfold = "down.0.net.0.weight" in shapes.state
    channels = shapes.of("down.0.net.0.weight" if eightfold else "down.net.0.weight", 4)[0]
    downsample = 8 if eightfold else 4
    symbols = shapes.of("head.weight", 2)[0] if "head.weight" in shapes.state else NUM_LOGITS
    n_mels = shapes.of("proj.weight", 2)[1] // channels * downsample
    return {"n_mels": n_mels, "num_symbols": symbols, "channels": channels, "downsample": downsample}


def _vision(shapes: Shapes, dim: int, heads: int) -> dict[str, Any]:
    return {"image_size": shapes.of("proj.weight", 4)[2] * math.isqrt(shapes.of("pos", 3)[1] - 1)}


def _codec(shapes: Shapes, dim: int, heads: int) -> dict[str, Any]:
    unused = {"width": dim, "kernel": 1, "ff_dim": dim}  # it has no blocks
    count = shapes.count(r"codebooks\.(\d+)\.weight$")
    return {"num_codebooks": count, "decay": None, "dropout": 0.0, "idle": 0.0, **unused}


#: Options that no single axis tells, from the width and the number of heads.
_FURTHER: dict[str, Callable[[Shapes, int, int], dict[str, Any]]] = {
    "thinker": _thinker, "audio": _audio, "vision": _vision, "codec": _codec,
}  # fmt: skip


def options_of(module: str, state: Mapping[str, Tensor], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of our module for a state dict of theirs.

    given: options that cannot be inferred, in place of the assumed ones. Raises ValueError for inconsistent shapes.
    """
    shapes, heads = Shapes(state), 0
    options = {**FIXED[module], **ASSUMED[module], **given}
    options |= {name: shapes.of(key, ndim)[axis] for name, (key, ndim, axis) in AXES[module].items()}
    if "num_heads" in options:
        heads = _heads(module, options["dim"], options["num_heads"])
        options |= {"num_heads": heads, "num_layers": shapes.count(r"blocks\.(\d+)\.")}
    return options | (_FURTHER[module](shapes, options["dim"], heads) if module in _FURTHER else {})


def check_options(given: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ValueError for an unknown module, an option that is not in `ASSUMED`, or a fraction for a whole number."""
    for module, options in given.items():
        if module not in TABLES:
            raise ValueError(f"unknown module {module!r}; available: {', '.join(TABLES)}")
        for name, value in options.items():
            if name not in ASSUMED[module]:
                available = ", ".join(f"{module}.{known}" for known in ASSUMED[module]) or "none, all are inferred"
                raise ValueError(f"unknown option {module}.{name}; available: {available}")
            if name != "rope_theta" and not isinstance(value, int):
                raise ValueError(f"{module}.{name}={value}: a whole number is needed")


def options_built(module: nn.Module) -> dict[str, Any]:
    """The options that a module was built with (`models.registry`)."""
    options: dict[str, Any] = vars(module)["options"]
    return options


def check_exportable(name: str, module: nn.Module) -> list[str]:
    """The layout variants (`rules.Variant`) by which micro-omni stores such a module.

    Raises ValueError naming the option that micro-omni lacks.
    """
    options = options_built(module)
    for option, value in FIXED[name].items():
        if options.get(option, value) != value:
            raise ValueError(f"{name}.{option}={options[option]}: micro-omni only knows {option}={value}")
    if name == "thinker":
        if options["mlp"] not in ("swiglu", "gelu"):
            raise ValueError(f"thinker.mlp={options['mlp']}: micro-omni only knows swiglu and gelu")
        return [
            "mha" if options["num_kv_heads"] == options["num_heads"] else "gqa",
            "moe" if options["num_experts"] else options["mlp"],
        ]
    if name == "talker":
        return ["mha", "swiglu"]
    if name == "audio":
        if options["downsample"] not in (4, 8):
            raise ValueError(f"audio.downsample={options['downsample']}: micro-omni only knows 4 and 8")
        return [f"{options['downsample']}x", "current"]
    return []
