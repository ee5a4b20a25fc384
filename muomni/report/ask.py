"""Five questions for the end of `make demo`, which the model answers live: about a picture, a recording and text, one
that is spoken, and one whose answer is. OUT/ask.jsonl, for `python -m muomni.inference.cli.live`."""

import json
import shutil
from pathlib import Path
from typing import Any

from muomni.checkpoints.atomic_write import write_text
from muomni.report.collect import StageRun

#: The task of a sample, its type, and what it is called.
QUESTIONS = (
    ("image_qa", "where", "a picture"), ("asr", "asr", "a recording"), ("text_qa", "fact", "text"),
    ("spoken_image_qa", "colour", "a spoken question about a picture"), ("tts", "tts", "a spoken answer"),
)  # fmt: skip


def write_questions(run: StageRun, out: Path) -> Path | None:
    """Write the first sample of each type of a run of stage=omni_sft, its media in OUT/ask; None where it has none."""
    folder = out / "ask"
    shutil.rmtree(folder, ignore_errors=True)
    (out / "ask.jsonl").unlink(missing_ok=True)
    lines: list[str] = []
    for task, kind, title in QUESTIONS:
        sample = next((each for each in run.samples if (each.get("task"), each.get("kind")) == (task, kind)), None)
        if sample is None:
            continue
        row: dict[str, Any] = {"title": title, "truth": sample.get("truth", "")}
        row["said" if task == "spoken_image_qa" else "text"] = sample.get("question", "")  # said: in the recording
        for key in ("image", "audio"):
            if key in sample:
                source = run.folder / "samples" / str(sample[key])
                folder.mkdir(parents=True, exist_ok=True)
                row[key] = f"ask/{len(lines) + 1}{source.suffix}"
                shutil.copyfile(source, out / row[key])
        if task == "tts":
            row["audio_out"] = f"ask/{len(lines) + 1}.wav"
        lines.append(json.dumps(row) + "\n")
    if not lines:
        return None
    write_text(out / "ask.jsonl", "".join(lines))
    return out / "ask.jsonl"
