"""The graphs that an export has: which modules each one needs, and how it is built of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from torch import nn

from muomni.checkpoints.export import Export
from muomni.frontends.hearing import hearing_of
from muomni.frontends.mel import MelSpec
from muomni.interop.onnx import codec, encoders, talker, thinker, vocoder
from muomni.interop.onnx.spec import Graph
from muomni.models.audio import Audio
from muomni.models.codec import Codec
from muomni.models.conv_vision import ConvEncoder
from muomni.models.projector import AudioProjector, ImageHead, ImageProjector
from muomni.models.talker import Talker
from muomni.models.text_tower import TextTower
from muomni.models.thinker import Thinker
from muomni.models.vision import VisionTransformer
from muomni.models.vocoder import Vocoder

#: Of the modules that have graphs, the classes.
CLASSES: dict[str, tuple[type[nn.Module], ...]] = {
    "thinker": (Thinker,),
    "vision": (VisionTransformer, ConvEncoder),
    "image_projector": (ImageProjector,),
    "image_head": (ImageHead,),
    "text_tower": (TextTower,),
    "audio": (Audio,),
    "audio_projector": (AudioProjector,),
    "talker": (Talker,),
    "codec": (Codec,),
    "vocoder": (Vocoder,),
}
#: hearing.onnx and audio.onnx in one: sherpa.py.
RECOGNIZER = "recognizer"


def _thinker(export: Export) -> Graph:
    model = cast(Thinker, export.modules["thinker"])
    media = tuple(name for name in ("image", "audio") if f"{name}_projector" in export.modules)
    return thinker.thinker_graph(model, media=media, max_length=model.max_length)


def _hearing(export: Export) -> Graph:
    return encoders.hearing_graph(mel_of(export, "mel"), hearing_of(export.metadata, where=str(export.folder)))


def _image_tokens(name: str) -> Callable[[Export], Graph]:
    return lambda export: encoders.image_tokens_graph(
        name, cast(Any, export.modules[name]), vision=export.modules["vision"]
    )


def _audio_projector(export: Export) -> Graph:
    audio, projector = cast(Audio, export.modules["audio"]), cast(AudioProjector, export.modules["audio_projector"])
    return encoders.audio_projector_graph(projector, audio=audio, thinker=cast(Thinker, export.modules["thinker"]))


def _vocoder(export: Export) -> Graph:
    corrections = export.metadata.get("corrections")
    if not isinstance(corrections, int):
        raise ValueError(f"{export.folder}: no vocoder.onnx: the metadata lack 'corrections': export it again")
    return vocoder.vocoder_graph(
        cast(Vocoder, export.modules["vocoder"]), codec_mel_of(export), corrections=corrections
    )


#: Graph -> the modules that it needs, and a function that builds it of an export.
BUILDERS: dict[str, tuple[tuple[str, ...], Callable[[Export], Graph]]] = {
    "thinker": (("thinker",), _thinker),
    "vision": (
        ("vision",), lambda export: encoders.vision_graph(export.modules["vision"], image=export.metadata.get("image")),
    ),
    "image_projector": (("vision", "image_projector"), _image_tokens("image_projector")),
    "image_head": (("vision", "image_head"), _image_tokens("image_head")),
    "text_tower": (("text_tower",), lambda export: encoders.text_tower_graph(cast(TextTower, export.modules["text_tower"]))),
    "hearing": (("audio",), _hearing),
    "audio": (("audio",), lambda export: encoders.audio_graph(cast(Audio, export.modules["audio"]))),
    "audio_projector": (("audio", "audio_projector", "thinker"), _audio_projector),
    "talker_text": (("talker",), lambda export: talker.talker_text_graph(cast(Talker, export.modules["talker"]))),
    "talker": (("talker",), lambda export: talker.talker_graph(cast(Talker, export.modules["talker"]))),
    "codec_mel": (("codec",), lambda export: encoders.mel_graph("codec_mel", codec_mel_of(export))),
    "codec_encoder": (("codec",), lambda export: codec.codec_encoder_graph(cast(Codec, export.modules["codec"]))),
    "codec_decoder": (("codec",), lambda export: codec.codec_decoder_graph(cast(Codec, export.modules["codec"]))),
    "vocoder": (("vocoder",), _vocoder),
}  # fmt: skip
PARTS = (*BUILDERS, RECOGNIZER)


def choose(export: Export, wanted: Sequence[str]) -> list[str]:
    """Names of graphs to be written: those that are wanted, or all that this export has. Raises ValueError naming one that is
    unknown, or the module that the export lacks or that has no graph."""
    for name in wanted:
        if name not in PARTS:
            raise ValueError(f"parts={name}: unknown; available: {', '.join(PARTS)}")
        problem = _problem(export, name)
        if problem is not None:
            raise ValueError(
                f"{export.folder}: no {name}.onnx: {problem}; it can have {', '.join(_possible(export)) or 'none'}"
            )
    names = list(dict.fromkeys(wanted)) or _possible(export)
    if not names:
        raise ValueError(f"{export.folder}: nothing in it has an ONNX graph: it holds {', '.join(export.modules)}")
    return names


def left_out(export: Export) -> list[str]:
    """A line for each module of an export that no graph is made of."""
    covered = {module for name in _possible(export) for module in _needs(name)}
    return [
        f"{name} ({_architecture(module)}): no ONNX graph"
        for name, module in export.modules.items()
        if name not in covered
    ]


def build(export: Export, name: str) -> Graph:
    """A graph of an export that `choose` named. Raises ValueError where an option of the module has no graph."""
    return BUILDERS[name][1](export)


def mel_of(export: Export, key: str) -> MelSpec:
    """The spectrogram of an export. Raises ValueError naming the export where it is missing or damaged."""
    stored = export.metadata.get(key)
    try:
        return MelSpec(**cast(Mapping[str, Any], stored))
    except TypeError as error:
        raise ValueError(f"{export.folder}: the metadata lack {key!r}, or it is damaged: export it again") from error


def codec_mel_of(export: Export) -> MelSpec:
    """The spectrogram of an export's codec."""
    return mel_of(export, "codec_mel" if "codec_mel" in export.metadata else "mel")


def _needs(name: str) -> tuple[str, ...]:
    return BUILDERS["audio" if name == RECOGNIZER else name][0]


def _possible(export: Export) -> list[str]:
    return [name for name in PARTS if _problem(export, name) is None]


def _problem(export: Export, name: str) -> str | None:
    """Why an export has no such graph."""
    for module in _needs(name):
        if module not in export.modules:
            return f"the export has no module {module!r}"
        if not isinstance(export.modules[module], CLASSES[module]):
            return f"its {module} is {_architecture(export.modules[module])}, which has no ONNX graph"
    return None


def _architecture(module: nn.Module) -> str:
    return str(getattr(module, "architecture", type(module).__name__))
