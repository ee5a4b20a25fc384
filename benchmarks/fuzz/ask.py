"""Loads exports, single files and checkpoints, and calls every function that their modules support."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.fuzz.harness import BrokenAnswerError
from muomni.inference.audio_excerpt import AudioTooLongError
from muomni.inference.decoding.sampling import NOT_FINITE
from muomni.inference.engine import Engine
from muomni.inference.load import load_model

SOUND = torch.sin(torch.arange(4000) / 5.0) * 0.1
OF_THE_QUESTION = ("Too many tokens", "nothing in 'a red circle' can be spoken", NOT_FINITE)


def ask(path: Path) -> Engine:
    """Load it, and get an answer of a few tokens, a transcript and a word spoken from what loads."""
    engine = load_model(path, device="cpu")
    media: dict[str, Any] = (
        {"image": torch.full((3, 20, 30), 90, dtype=torch.uint8)} if "image_projector" in engine.modules else {}
    )
    with about(path), no_nan(engine):
        engine.generate("what colour is it?", max_new_tokens=3, **media)
        if "audio" in engine.modules:
            engine.transcribe(SOUND)
        if "audio_projector" in engine.modules:
            engine.generate("", audio=SOUND, max_new_tokens=1)
        if "talker" in engine.modules and not torch.isfinite(engine.generate_speech("a red circle")).all():
            raise BrokenAnswerError("speech of NaN or Inf")
    return engine


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Name the export in an error that rightly is about the question alone."""
    try:
        yield
    except ValueError as error:
        if isinstance(error, AudioTooLongError) or str(error).startswith(OF_THE_QUESTION):
            raise ValueError(f"{path}: {error}") from error
        raise


@contextmanager
def no_nan(engine: Engine) -> Iterator[None]:
    """Raise BrokenAnswerError where an answer came although a layer gave NaN."""
    found: list[str] = []

    def look(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point() and output.isnan().any():
            found.append(type(module).__name__)

    hooks = [layer.register_forward_hook(look) for model in engine.modules.values() for layer in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if found:
        raise BrokenAnswerError(f"an answer came although {found[0]} gave NaN")


def ask_weights(made: tuple[Path, bool]) -> None:
    """Weights that are not finite are refused as they are loaded, or never answer."""
    path, planted = made
    ask(path)
    if planted:
        raise BrokenAnswerError("an engine answered with weights that hold NaN or Inf")
