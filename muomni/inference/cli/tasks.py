"""What infer.py is asked to do, and which of its options have a say in that: the others are refused, not ignored."""

from collections.abc import Container, Mapping
from typing import Any

#: Of every task: what is loaded, and how.
ALWAYS = ("ckpt", "paths", "device", "threads", "quiet", "talker", "vocoder")
_THINKER = ("generation", "system_prompt", "format", "compile", "dtype", "packages")
_QUESTION = ("text", "prompt")
_PICTURES = ("image", "video", "video_frames")
USES = {
    "the export": ("export",),
    "reading": _PICTURES,
    "a transcript": ("transcribe", "audio_in", "beams", "lm", "lm_weight", "timestamps", "audio_out", "voice"),
    "speech": (*_QUESTION, "audio_out", "voice"),
    "a chat": (*_THINKER, "history", "truncate", "speak", "audio_out", "voice"),
    "an answer": (*_QUESTION, *_PICTURES, "audio_in", *_THINKER, "n_best", "echo", "truncate", "audio_out", "voice"),
}


def choose_task(cfg: Mapping[str, Any], parts: Container[str]) -> str:
    """The task (a key of `USES`) that the options name, for an export of these parts."""
    asks = bool((cfg["prompt"] or cfg["text"] or "").strip())
    sees, hears = cfg["image"] is not None or cfg["video"] is not None, cfg["audio_in"] is not None
    if cfg["export"] is not None:
        return "the export"
    if "ocr" in parts:
        return "reading"
    if cfg["transcribe"]:
        return "a transcript"
    if not asks and not sees and not hears:
        return "a chat"
    if "thinker" not in parts and hears and not asks and not sees:
        return "a transcript"
    if "thinker" not in parts and "talker" in parts and asks and not sees and not hears:
        return "speech"
    return "an answer"


def reject_unused(task: str, cfg: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raise ValueError naming the options that differ from their defaults and have no effect on the task."""
    uses = set(USES[task]) | set(ALWAYS)
    if cfg["audio_out"] is None and task != "a chat":
        uses -= {"voice"}
    if cfg["video"] is None:
        uses -= {"video_frames"}
    if cfg["n_best"] != 1:
        uses -= {"echo"}
    if task == "a transcript" and cfg["lm"] == "thinker":
        uses |= {"dtype", "format"}
    idle = [name for name in defaults if name not in uses and cfg[name] != defaults[name]]
    if idle:
        names = ", ".join(f"{name}=" for name in idle)
        takes = ", ".join(f"{name}=" for name in USES[task] if name in uses and name not in idle)
        raise ValueError(f"{names} would have no effect on {task}, which takes {takes}: leave it out")
