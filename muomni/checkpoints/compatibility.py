"""Consistency of the modules of an export and its metadata, checked at load: sizes that differ are one line that names both,
not a shape error in the middle of an answer."""

from collections.abc import Mapping
from typing import Any

from torch import nn

#: (module, option, metadata names, key) and (module, option, other module, its option) that must be equal.
WITH_METADATA = (
    ("audio", "n_mels", ("mel",), "bins"),
    ("codec", "n_mels", ("codec_mel", "mel"), "bins"),
    ("vision", "image_size", ("image",), "size"),
    ("ocr", "image_size", ("image",), "size"),
)
WITH_MODULES = (
    ("image_projector", "dim", "vision", "dim"),
    ("image_projector", "out_dim", "thinker", "dim"),
    ("audio_projector", "dim", "audio", "dim"),
    ("audio_projector", "out_dim", "thinker", "dim"),
    ("audio_projector", "characters", "audio", "num_symbols"),
    ("talker", "state_width", "talker_thinker", "dim"),
)


def check_compatible(modules: Mapping[str, nn.Module], metadata: Mapping[str, Any], *, where: str) -> None:
    """Raise ValueError naming the first two sizes that should be equal."""
    options: dict[str, dict[str, Any]] = {name: vars(module).get("options", {}) for name, module in modules.items()}

    def compare(module: str, option: str, expected: Any, of: str) -> None:
        own = options[module].get(option)
        if own is not None and expected is not None and own != expected:
            raise ValueError(
                f"{where}: {module}.{option} is {own}, but {of} is {expected}: they belong to different exports"
            )

    for module, option, names, key in WITH_METADATA:
        name = next((name for name in names if isinstance(metadata.get(name), Mapping)), None)
        if module in options and name is not None:
            compare(module, option, metadata[name].get(key), f"{key} of the fact {name!r}")
    for module, option, other, key in WITH_MODULES:
        # 0 characters, a width of 0: unused
        if module in options and other in options and options[module].get(option) != 0:
            compare(module, option, options[other].get(key), f"{other}.{key}")
    projector, vision = options.get("image_projector", {}), options.get("vision")
    if vision is not None and projector.get("image_tokens") == "grid":
        side, grid = vision["image_size"] // vision["patch"], projector["grid"]
        of = f"the number of patches per cell of a {side} x {side} image in {grid} x {grid} cells"
        compare("image_projector", "cell", (side // grid) ** 2, of)
    if "talker" in options and "codec" in options:
        (spoken, size), (known, entries) = _codebooks(modules["talker"]), _codebooks(modules["codec"])
        if size != entries or spoken > known:
            raise ValueError(
                f"{where}: the Talker speaks {spoken} codebooks of {size}, this codec has {known} of {entries}: they belong to "
                "different exports"
            )


def _codebooks(module: Any) -> tuple[int, int]:
    """How many codebooks a Talker or a codec has, and of how many entries."""
    return module.num_codebooks, module.codebook_size
