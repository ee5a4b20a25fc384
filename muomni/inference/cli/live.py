"""python -m muomni.inference.cli.live ckpt=checkpoints/omni_sft questions=reports/demo/ask.jsonl    the demo's last words.

The model answers the questions of the file now, in the terminal, and the lines to type next follow. A line of the file has
`title` and `truth`, `text`, `image` and `audio` as of infer.py's batch=, `said` where the recording asks, and with `audio_out`
the answer is spoken too; files are relative to it.
"""

import json
import shlex
import textwrap
from pathlib import Path
from typing import Any

from muomni.cli.key_value import read_options, run_program
from muomni.frontends.audio_io import write_audio
from muomni.inference.engine import Engine
from muomni.inference.load import load_model
from muomni.user_path import user_path

DEFAULTS = {"ckpt": "checkpoints/omni_sft", "questions": "reports/demo/ask.jsonl"}
MOST_SHOWN = 200  # characters of an answer


def main(arguments: list[str]) -> None:
    """Raises FileNotFoundError and ValueError of one line for files that are lacking or damaged."""
    options = read_options(arguments, DEFAULTS)
    source, rows = user_path(options["questions"]), []
    if not source.is_file():
        raise FileNotFoundError(f"questions={source}: there is no such file: python -m muomni.report writes it")
    for number, line in enumerate(source.read_text().splitlines(), 1):
        try:
            rows.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            raise ValueError(f"{source}, line {number}: a JSON object is needed") from None
    engine = load_model(user_path(options["ckpt"]), device="cpu")
    for number, row in enumerate(rows, 1):
        print("\n".join(answered(engine, row, number, source.parent)), flush=True)
    print("\n".join(["", "Type next:", *next_lines(options["ckpt"], rows, source.parent)]), flush=True)


def answered(engine: Engine, row: dict[str, Any], number: int, folder: Path) -> list[str]:
    """The lines about one question; its spoken answer is written."""
    media: dict[str, Any] = {key: str(folder / row[key]) for key in ("image", "audio") if key in row}
    text, said = str(row.get("text", "")), str(row.get("said", ""))
    answer = engine.chat(text, **media)
    shown = textwrap.shorten(answer, MOST_SHOWN, placeholder=" ...") or "(nothing)"
    lines = ["", f"{number}. {row.get('title', '')}: {', '.join(media.values())}".rstrip(": ")]
    lines += [f"   > {text}"] if text else []
    lines += [f"   > (in the recording) {said}"] if said else []
    lines.append(f"   {shown}    (true answer: {row.get('truth', '')})")
    if "audio_out" in row:
        target = folder / row["audio_out"]
        target.parent.mkdir(parents=True, exist_ok=True)
        if answer.strip():
            (spoken,) = engine.speak([answer])
            write_audio(target, spoken.waveform, engine.speech_rate)
            lines.append(f"   spoken: {target}")
    return lines


def next_lines(ckpt: str, rows: list[dict[str, Any]], folder: Path) -> list[str]:
    """What to type next, with the files that the questions had."""
    start = f"python infer.py ckpt={shlex.quote(ckpt)}"
    image = next((shlex.quote(str(folder / row["image"])) for row in rows if "image" in row), "FILE.png")
    audio = next((shlex.quote(str(folder / row["audio"])) for row in rows if "audio" in row), "FILE.wav")
    return [
        f'  {start} image={image} text="how many objects are there?"',
        f"  {start} audio_in={audio} transcribe=true",
        f'  {start} text="say a big red circle" audio_out=said.wav',
        f"  {start}                                  # chat",
        "  make serve                               # the same in a browser, with voice",
        f"  {folder / 'index.html'}                  # open it: what it learned",
    ]


if __name__ == "__main__":
    run_program(main)
