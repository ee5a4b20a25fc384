"""The tasks of infer.py, and the options that each of them uses: an option without effect is refused, not ignored."""

from collections.abc import Container, Mapping
from enum import Enum
from typing import Any

from muomni.inference.errors import InvalidOption


class Task(Enum):
    """What a command line asks for. The value names it in messages."""

    EXPORT = "the export"
    OCR = "reading"
    TRANSCRIBE = "a transcript"
    SPEAK = "speech"
    CHAT = "a chat"
    ANSWER = "an answer"
    BATCH = "a batch"


#: Options of every task: what is loaded, and how.
ALWAYS = ("ckpt", "paths", "device", "threads", "quiet", "talker", "vocoder")
_THINKER = ("generation", "system_prompt", "format", "compile", "dtype", "packages")
_QUESTION = ("text", "prompt")
_HOW = ("voice", "look_ahead", "guidance", "code_penalty", "code_temperature", "code_seed")
_SOUND = ("audio_out", *_HOW)
_IMAGES = ("image", "video", "video_frames")
USES = {
    Task.EXPORT: ("export",),
    Task.OCR: _IMAGES,
    Task.TRANSCRIBE: ("transcribe", "live", "audio_in", "beams", "lm", "lm_weight", "timestamps", "transcript", *_SOUND),
    Task.SPEAK: (*_QUESTION, *_SOUND),
    Task.CHAT: (*_THINKER, "history", "truncate", "speak", "player", *_SOUND),
    Task.ANSWER: (*_QUESTION, *_IMAGES, "audio_in", *_THINKER, "n_best", "echo", "truncate", *_SOUND),
    Task.BATCH: ("batch", "out", "batch_size", *_THINKER, "truncate"),
}  # fmt: skip


def choose_task(cfg: Mapping[str, Any], modules: Container[str]) -> Task:
    """The task that the options name, for an export of these modules."""
    text = bool((cfg["prompt"] or cfg["text"] or "").strip())
    images, audio = cfg["image"] is not None or cfg["video"] is not None, cfg["audio_in"] is not None
    if cfg["export"] is not None:
        return Task.EXPORT
    if cfg["batch"] is not None:
        return Task.BATCH
    if "ocr" in modules:
        return Task.OCR
    if cfg["transcribe"] or cfg["transcript"] != "text":
        return Task.TRANSCRIBE
    if not text and not images and not audio:
        return Task.CHAT
    if "thinker" not in modules and audio and not text and not images:
        return Task.TRANSCRIBE
    if "thinker" not in modules and "talker" in modules and text and not images and not audio:
        return Task.SPEAK
    return Task.ANSWER


def reject_unused(task: Task, cfg: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raise InvalidOption naming the options that differ from their defaults and have no effect on the task."""
    uses = set(USES[task]) | set(ALWAYS)
    if cfg["audio_out"] is None and task is not Task.CHAT:
        uses -= set(_HOW)
    if cfg["video"] is None:
        uses -= {"video_frames"}
    if cfg["n_best"] != 1:
        uses -= {"echo"}
    if task is Task.TRANSCRIBE and cfg["lm"] == "thinker":
        uses |= {"dtype", "format"}
    unused = [name for name in defaults if name not in uses and cfg[name] != defaults[name]]
    if unused:
        names = ", ".join(f"{name}=" for name in unused)
        takes = ", ".join(f"{name}=" for name in USES[task] if name in uses and name not in unused)
        raise InvalidOption(
            f"{names} would have no effect on {task.value}, which takes {takes}: leave it out", param=unused[0]
        )
