"""Whether the parts of an export and its facts belong together, before anything is computed with them: numbers that differ are
one line that names both, and not an error of shapes in the middle of an answer."""

from collections.abc import Mapping
from typing import Any

from torch import nn

#: Part and its option, and what must be the same: a fact and its key, or another part and its option.
FACTS = (
    ("audio", "n_mels", ("mel",), "bins"),
    ("codec", "n_mels", ("codec_mel", "mel"), "bins"),
    ("vision", "image_size", ("image",), "size"),
    ("ocr", "image_size", ("image",), "size"),
)
PARTS = (
    ("image_projector", "dim", "vision", "dim"),
    ("image_projector", "out_dim", "thinker", "dim"),
    ("audio_projector", "dim", "audio", "dim"),
    ("audio_projector", "out_dim", "thinker", "dim"),
    ("audio_projector", "characters", "audio", "num_symbols"),
)


def check_fit(parts: Mapping[str, nn.Module], facts: Mapping[str, Any], *, where: str) -> None:
    """Raise ValueError naming the first two numbers that should be the same."""
    options: dict[str, dict[str, Any]] = {name: vars(part).get("options", {}) for name, part in parts.items()}

    def compare(part: str, option: str, found: Any, of: str) -> None:
        own = options[part].get(option)
        if own is not None and found is not None and own != found:
            raise ValueError(
                f"{where}: {part}.{option} is {own}, but {of} is {found}: they belong to different exports"
            )

    for part, option, names, key in FACTS:
        fact = next((name for name in names if isinstance(facts.get(name), Mapping)), None)
        if part in options and fact is not None:
            compare(part, option, facts[fact].get(key), f"{key} of the fact {fact!r}")
    for part, option, other, key in PARTS:
        if part in options and other in options and options[part].get(option) != 0:  # 0 characters: none are used
            compare(part, option, options[other].get(key), f"{other}.{key}")
    if (
        "image_projector" in options
        and "vision" in options
        and options["image_projector"].get("image_tokens") == "grid"
    ):
        side, grid = options["vision"]["image_size"] // options["vision"]["patch"], options["image_projector"]["grid"]
        compare(
            "image_projector",
            "cell",
            (side // grid) ** 2,
            f"what a {side} x {side} picture has in {grid} x {grid} cells",
        )
