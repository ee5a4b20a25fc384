"""python -m muomni.report listen RUN ..: what speech sounds like, as one HTML file: the versions of each sentence side by side.

A version has a player, its waveform and mel over the same time, the words where the own judge aligns them, and what the judges
write, with the errors marked. "shuffled" is the last version compared with another sentence's text: what chance would get.

Legend: N samples, T frames, M mel bins.
"""

import difflib
import io
import itertools
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from muomni.checkpoints.atomic_write import write_text
from muomni.evaluation.views import heat_map
from muomni.frontends.audio_io import read_audio
from muomni.frontends.mel import LogMel, MelSpec
from muomni.metrics.error_rates import error_rates, shuffled
from muomni.report import html
from muomni.report.collect import StageRun
from muomni.report.html import Page
from muomni.report.run_files import Row
from muomni.report.tables import VERSIONS, number

#: Bytes of media in a page: base64 adds a third, and `html.MOST_BYTES` is the whole.
MOST_MEDIA = 3_500_000
MOST_SENTENCES = 6  # of a stage
WIDTH, WAVE = 300, 56  # pixels of a version, and of its waveform's height
COLOURS = 48  # of a mel's image
RATE = 16_000  # Hz, of what is drawn
SPEC = MelSpec(sample_rate=RATE, hop=160, n_fft=1024, win=400, bins=64, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)
LOUDEST = 8.0  # standard deviations below the loudest bin that have colours

STYLE = """
.sentence { margin: 14px 0 26px; } .sentence > h3 { font-size: 16px; margin: 0 0 6px; }
.versions { display: grid; grid-template-columns: repeat(auto-fit, minmax(270px, 1fr)); gap: 14px; }
.version { border: 1px solid #ddd; border-radius: 6px; padding: 8px 10px; min-width: 0; }
.version h4 { margin: 0 0 4px; font-size: 14px; } .version audio { width: 100%; height: 36px; }
.strip { position: relative; cursor: pointer; } .strip svg, .strip img { display: block; width: 100%; height: auto; }
.strip img { height: 90px; image-rendering: auto; } .strip svg.wave { height: 56px; }
.words { position: relative; height: 31px; font-size: 11px; line-height: 14px; overflow: hidden; }
.words span { position: absolute; background: #e2e2e2; height: 14px; white-space: nowrap; overflow: visible; }
.head { position: absolute; top: 0; bottom: 0; left: 0; width: 2px; background: #d55e00; display: none; pointer-events: none; }
.said { margin: 6px 0 0; overflow-wrap: anywhere; } .said b { font-weight: 600; }
ins { background: #ffd9c7; color: #8a2b00; text-decoration: none; } del { background: #dbe7f3; color: #345; }
@media (max-width: 700px) { .versions { grid-template-columns: 1fr; } }
"""

#: The line over waveform, mel and words follows the sound; a click there goes to that time. One sound plays at a time.
SCRIPT = """
document.querySelectorAll(".version").forEach((version) => {
  const sound = version.querySelector("audio"), strip = version.querySelector(".strip"), head = version.querySelector(".head");
  if (!sound || !strip) return;
  const follow = () => {
    head.style.display = "block";
    head.style.left = `${100 * sound.currentTime / (sound.duration || 1)}%`;
    if (!sound.paused) requestAnimationFrame(follow);
  };
  sound.addEventListener("play", () => {
    document.querySelectorAll("audio").forEach((other) => { if (other !== sound) other.pause(); });
    follow();
  });
  sound.addEventListener("seeked", follow);
  strip.addEventListener("click", (event) => {
    const box = strip.getBoundingClientRect();
    sound.currentTime = (sound.duration || 0) * (event.clientX - box.left) / box.width;
  });
});
"""
NOTE = (
    "What is written too much or wrongly is marked like <ins>this</ins>, what is missing like <del>this</del>; CER is of that "
    "sentence. Grey spans are the words where the recognizer of stage=audio aligns them. A click on a picture goes to its time."
)


def write_listening(runs: Sequence[StageRun], out: Path, *, command: str) -> Path:
    """Write the page to the file `out`. Raises ValueError where no run has sounds in its samples."""
    page = Page("Speech to listen to", media=MOST_MEDIA, style=html.STYLE + STYLE, script=SCRIPT)
    page.add(html.paragraph(f"Made by {command}"), f'<p class="note">{NOTE}</p>')
    found = False
    for run in runs:
        sentences = sentences_of(run)
        if sentences:
            found = True
            page.heading(f"stage={run.stage}", f"{run.folder}; {len(sentences)} sentences")
            page.add(*(_sentence(page, run, *each) for each in zip(sentences, _others(sentences), strict=True)))
    if not found:
        folders = ", ".join(str(run.folder) for run in runs) or "no run"
        raise ValueError(
            f"{folders}: no sounds in samples/: a test of stage=talker, codec, vocoder or omni_sft writes them"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page.html())
    return out


def sentences_of(run: StageRun) -> list[dict[str, Row]]:
    """The samples of each sentence by version, in the order of `VERSIONS`; an equal share of each split."""
    by_split: dict[str, dict[str, dict[str, Row]]] = {}
    for sample in run.samples:
        if sample.get("kind") in VERSIONS and "audio" in sample:
            sentences = by_split.setdefault(str(sample.get("split", "")), {})
            sentences.setdefault(str(sample.get("id", "")), {})[sample["kind"]] = sample
    share = max(1, MOST_SENTENCES // max(1, len(by_split)))
    chosen = [each for sentences in by_split.values() for each in list(sentences.values())[:share]]
    return [{name: each[name] for name in VERSIONS if name in each} for each in chosen]


def _others(sentences: Sequence[dict[str, Row]]) -> list[Row]:
    """For each sentence another one's last version, whose text it is compared with; itself where there is none."""
    order = shuffled([str(index) for index in range(len(sentences))])
    return [list(sentences[int(index)].values())[-1] for index in order]


def _sentence(page: Page, run: StageRun, versions: dict[str, Row], other: Row) -> str:
    """The versions of a sentence side by side."""
    cells = [_version(page, run, name, sample) for name, sample in versions.items()]
    last = list(versions.values())[-1]
    if other is not last:
        against = {key: other[key] for key in ("truth", "whisper_truth") if key in other}
        texts = _transcripts({key: value for key, value in last.items() if key not in ("cer", "whisper_cer")} | against)
        title = f"shuffled: against “{escape(str(other.get('truth', '')))}”"
        cells.append(f'<div class="version"><h4>{title}</h4>{texts}</div>')
    first = next(iter(versions.values()))
    split = f'<span class="note">({escape(str(first.get("split", "")))})</span>'
    title = f"{escape(str(first.get('truth') or first.get('text', '')))} {split}"
    return f'<div class="sentence"><h3>{title}</h3><div class="versions">{"".join(cells)}</div></div>'


def _version(page: Page, run: StageRun, name: str, sample: Row) -> str:
    """A player, what it looks like, and what was understood."""
    path = run.folder / "samples" / str(sample["audio"])
    if not path.is_file():
        raise ValueError(f"{path}: the sound of a sample is missing: test the stage again, or leave out this run")
    waveform = read_audio(path, RATE)
    pictures = waveform_svg(waveform) + page.embed_content(mel_png(waveform), "image/png")
    pictures += words_line(sample.get("words") or [], seconds=len(waveform) / RATE)
    return (
        f'<div class="version"><h4>{escape(name)}</h4>{page.embed(path)}'
        f'<div class="strip">{pictures}<div class="head"></div></div>{_transcripts(sample)}</div>'
    )


def _transcripts(sample: Row) -> str:
    """What each judge wrote, with the errors marked."""
    lines = []
    for judge, said, truth, rate in (
        ("own judge", "answer", "truth", "cer"),
        ("Whisper", "whisper_words", "whisper_truth", "whisper_cer"),
    ):
        if said in sample and sample.get(truth):
            text, reference = str(sample[said]), str(sample[truth])
            cer = sample.get(rate, error_rates([text], [reference])["cer"])
            lines.append(f'<p class="said"><b>{judge}</b> (CER {number(cer)} %): {marked(text, reference)}</p>')
    return "".join(lines)


def marked(text: str, truth: str) -> str:
    """A transcript as HTML, with what is wrong in <ins> and what is missing in <del>."""
    parts = []
    for change, a, b, c, d in difflib.SequenceMatcher(None, text, truth, autojunk=False).get_opcodes():
        if change == "equal":
            parts.append(escape(text[a:b]))
        else:
            parts += [f"<ins>{escape(text[a:b])}</ins>"] if b > a else []
            parts += [f"<del>{escape(truth[c:d])}</del>"] if d > c else []
    return "".join(parts) or "<del>nothing</del>"


def waveform_svg(waveform: Tensor) -> str:
    """The envelope of a waveform (N): its least and greatest sample in each column of pixels."""
    columns = min(WIDTH, len(waveform))
    middle, ends = WAVE / 2, [len(waveform) * column // columns for column in range(columns + 1)]
    parts = [waveform[begin:end] for begin, end in itertools.pairwise(ends)]
    high = [f"{x},{middle - middle * float(part.max().clamp(-1, 1)):.1f}" for x, part in enumerate(parts)]
    low = [f"{x},{middle - middle * float(part.min().clamp(-1, 1)):.1f}" for x, part in enumerate(parts)]
    return (
        f'<svg class="wave" viewBox="0 0 {columns} {WAVE}" preserveAspectRatio="none" role="img" aria-label="waveform">'
        f'<line x1="0" x2="{columns}" y1="{middle}" y2="{middle}" stroke="#ccc"/>'
        f'<polygon points="{" ".join([*high, *reversed(low)])}" fill="#0072b2" stroke="#0072b2" stroke-width=".5"/></svg>'
    )


@lru_cache(maxsize=1)
def _log_mel() -> LogMel:
    return LogMel(SPEC)


@torch.inference_mode()
def mel_png(waveform: Tensor) -> bytes:
    """The log-mel of a waveform (N) as a PNG: a pixel a frame and bin, low frequencies at the bottom."""
    if len(waveform) < SPEC.hop:
        waveform = torch.nn.functional.pad(waveform, (0, SPEC.hop - len(waveform)))
    mel = _log_mel()(waveform)
    pixels = heat_map(mel.clamp_min(float(mel.max()) - LOUDEST).T).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).quantize(COLOURS).save(file, "PNG", optimize=True)
    return file.getvalue()


def words_line(words: Sequence[Sequence[object]], *, seconds: float) -> str:
    """(word, start, end) in seconds -> a box a word, on the time of a sound that lasts so many."""
    boxes = []
    for index, (word, start, end) in enumerate(words):
        left, right = (100 * float(str(time)) / max(seconds, 1e-3) for time in (start, end))
        place = f"left:{left:.2f}%;width:{max(0.5, right - left):.2f}%;top:{15 * (index % 2)}px"  # short words overlap
        boxes.append(f'<span style="{place}">{escape(str(word))}</span>')
    return f'<div class="words">{"".join(boxes)}</div>' if boxes else ""
