"""How a Hugging Face folder prepares images and recordings (preprocessor_config.json) as specs of our frontends.

What a file leaves out are the defaults of the processor that its family has in transformers. What cannot be said by our specs is
refused by name: an image prepared in another way is read worse, and nothing would tell.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muomni.frontends.image import PIL_FILTERS, ImageSpec
from muomni.frontends.mel import MelSpec
from muomni.interop.hf.folder import read_json
from muomni.models.hf_audio import field_of_view

FILES = {"preprocessor_config.json": None, "processor_config.json": ("image_processor", "feature_extractor")}
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
HALF = [0.5, 0.5, 0.5]
_COMMON = {
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "do_center_crop": False,
}
_CROPPED = {"size": {"shortest_edge": 224}, "crop_size": 224, "do_center_crop": True, "resample": 3}
#: The processors' defaults in transformers, by the encoder's family.
IMAGE_DEFAULTS: dict[str, dict[str, Any]] = {
    "clip_vision_model": _COMMON | _CROPPED | {"image_mean": CLIP_MEAN, "image_std": CLIP_STD},
    "dinov2": _COMMON | _CROPPED | {"image_mean": CLIP_MEAN, "image_std": CLIP_STD},
    "siglip_vision_model": _COMMON | {"size": 224, "resample": 3, "image_mean": HALF, "image_std": HALF},
    "vit": _COMMON | {"size": 224, "resample": 2, "image_mean": HALF, "image_std": HALF},
}
WHISPER_DEFAULTS = {
    "feature_size": 80, "sampling_rate": 16000, "hop_length": 160, "chunk_length": 30, "n_fft": 400, "padding_value": 0.0,
    "dither": 0.0, "do_normalize": False,
}  # fmt: skip
WAVEFORM_DEFAULTS = {"feature_size": 1, "sampling_rate": 16000, "padding_value": 0.0, "do_normalize": True}


def read_preprocessor(folder: Path, defaults: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The file, and what it says over the defaults. Raises FileNotFoundError where there is none."""
    for name, inner in FILES.items():
        path = folder / name
        if path.is_file():
            content: Any = read_json(path)
            for key in inner or ():
                content = content[key] if isinstance(content.get(key), dict) else content
            return path, {key: content.get(key, value) for key, value in defaults.items()}
    raise FileNotFoundError(
        f"{folder}: no {' and no '.join(FILES)} here, which say how its input is prepared: download one too"
    )


def image_spec(folder: Path, family: str) -> ImageSpec:
    """Raises ValueError naming the file and the value that our frontend cannot follow."""
    path, given = read_preprocessor(folder, IMAGE_DEFAULTS[family])

    def refuse(key: str, why: str) -> ValueError:
        return ValueError(f"{path}: {key}={given[key]!r:.80}: {why}")

    if not given["do_resize"] or not given["do_rescale"]:
        raise refuse("do_resize" if not given["do_resize"] else "do_rescale", "an image is always resized and rescaled")
    if not isinstance(given["rescale_factor"], float) or abs(given["rescale_factor"] * 255 - 1) > 1e-3:
        raise refuse("rescale_factor", "only 1/255 is known")
    numbers = {method.value: name for name, method in PIL_FILTERS.items()}
    if given["resample"] not in numbers:
        raise refuse("resample", f"Pillow's filters are {', '.join(map(str, numbers))}")
    cropped = bool(given["do_center_crop"])
    shorter, square = _sides(given["size"], square=not cropped)
    if cropped:
        size = _sides(given["crop_size"], square=True)[1]
        if size is None:
            raise refuse("crop_size", "a square is needed")
        if shorter is not None and size > shorter:
            raise refuse("crop_size", f"it is larger than size={given['size']}, the image would be padded")
        how = {"fit": "crop", "resize": shorter} if shorter is not None else {"fit": "squash"}
        if shorter is None and square != size:
            raise refuse(
                "size", f"a square that is cropped to {size}: only the shorter side may be resized before a crop"
            )
    else:
        size, how = square, {"fit": "squash"}
    if size is None:
        raise refuse("size", "a square is needed: {height: N, width: N}, or shortest_edge and a crop")
    mean, std = (given["image_mean"], given["image_std"]) if given["do_normalize"] else ([0.0] * 3, [1.0] * 3)
    try:
        return ImageSpec(
            size=size, mean=tuple(mean), std=tuple(std), interpolation=numbers[given["resample"]], matte="black", **how
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _sides(size: Any, *, square: bool) -> tuple[int | None, int | None]:
    """The shorter side, or the side of a square; None for what is not said. square: what a number alone means."""
    if isinstance(size, Mapping):
        edge, height, width = size.get("shortest_edge"), size.get("height"), size.get("width")
        if edge is not None and size.get("longest_edge") is None:
            return _side(edge), None
        return None, _side(height) if height == width else None
    return (None, _side(size)) if square else (_side(size), None)


def _side(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 4096 else None


def audio_spec(folder: Path, family: str, config: Mapping[str, Any]) -> MelSpec:
    """Raises ValueError naming the file and the value that our frontend cannot follow."""
    path, given = read_preprocessor(folder, WHISPER_DEFAULTS if family == "whisper" else WAVEFORM_DEFAULTS)

    def require(key: str, expected: Any, why: str) -> None:
        if given[key] != expected:
            raise ValueError(f"{path}: {key}={given[key]!r:.80}: {why} {expected}")

    require("padding_value", 0.0, "clips are padded by")
    rate = given["sampling_rate"]
    try:
        if family == "whisper":
            require("feature_size", config["num_mel_bins"], "config.json asks for num_mel_bins")
            require("dither", 0.0, "no noise is added: ")
            require("do_normalize", False, "only log-mels as Whisper's own are known:")
            hop, n_fft, window = given["hop_length"], given["n_fft"], given["chunk_length"] * rate
            if window != 2 * hop * config["max_source_positions"]:
                seconds = 2 * hop * config["max_source_positions"] / rate
                raise ValueError(
                    f"chunk_length={given['chunk_length']}: config.json's max_source_positions are {seconds:g} s"
                )
            return MelSpec(
                sample_rate=rate, hop=hop, n_fft=n_fft, win=n_fft, bins=config["num_mel_bins"], f_min=0.0, f_max=8000.0,
                log=True, floor=1e-10, kind="whisper", window=window,
            )  # fmt: skip
        require("feature_size", 1, "waveforms have")
        view, hop = field_of_view(config)
        kind = "unit_waveform" if given["do_normalize"] else "waveform"
        return MelSpec(
            sample_rate=rate, hop=hop, n_fft=view, win=view, bins=view, f_min=0.0, f_max=rate / 2, log=False, floor=1e-7,
            kind=kind,
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: {error}") from error
