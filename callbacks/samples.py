"""Writes a few inputs, answers and references of the held-out splits to the run folder and to the loggers.

    <run>/samples/samples.jsonl     one object a sample; `image` and `audio` name files in the same folder
    <run>/samples/*.png, *.wav

Legend: H height, W width, N audio samples.
"""

import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image
from torch import Tensor

from muomni.checkpoints.atomic_write import write_text
from muomni.frontends.audio_io import read_audio, write_audio
from muomni.frontends.image_file import read_image

log = logging.getLogger(__name__)

Row = dict[str, Any]

#: Default sample rate in Hz.
SAMPLE_RATE = 16000
#: Characters of a field in a file name: a type of question may be any text of the user's.
MAX_WORD = 40
#: Fields with media; the others are shown as text.
MEDIA = ("image", "audio")


class Samples(Callback):
    """After a test: writes the `examples` of the stage, and logs images, audio and transcripts to W&B and
    TensorBoard if they are enabled.

    Args:
        limit: maximum number of samples; a message counts the rest.
    """

    def __init__(self, *, limit: int) -> None:
        self.limit = limit

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write and log the samples, on the first process only."""
        if not trainer.is_global_zero:
            return
        stage: Any = pl_module
        samples = stage.examples
        if not samples:
            return
        if len(samples) > self.limit:
            log.info("%d samples, kept the first %d", len(samples), self.limit)
        folder = Path(trainer.default_root_dir) / "samples"
        rows = write_samples(folder, samples[: self.limit])
        for logger in trainer.loggers:
            show = SHOW.get(type(logger))
            if show is not None:
                show(logger, stage.name, folder, rows, trainer.global_step)


def write_samples(folder: Path, samples: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Write samples and their media into `folder`, replacing those of an earlier test. Returns the rows as written.

    A sample: `split`, `id` and any plain fields; `image` a path or a tensor (3, H, W) in [0, 1] or uint8; `audio` a
    path, or `waveform` a tensor (N) with `sample_rate` in Hz.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = [_write_media(folder, number, sample) for number, sample in enumerate(samples)]
    write_text(folder / "samples.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def _write_media(folder: Path, number: int, sample: Mapping[str, Any]) -> Row:
    row = {key: _plain(value) for key, value in sample.items() if key not in (*MEDIA, "waveform")}
    words = (str(number), *(str(sample[key]) for key in ("split", "kind") if sample.get(key)))
    stem = "-".join(re.sub(r"[^\w.-]", "_", word)[:MAX_WORD] for word in words)
    if sample.get("image") is not None:
        row["image"] = f"{stem}.png"
        _to_image(sample["image"]).save(folder / row["image"])
    if sample.get("waveform") is not None:
        rate = int(sample.get("sample_rate", SAMPLE_RATE))
        row |= {"audio": f"{stem}.wav", "sample_rate": rate}
        write_audio(folder / row["audio"], sample["waveform"].detach().float().cpu(), rate)
    elif sample.get("audio") is not None:
        row |= {"audio": f"{stem}.wav", "sample_rate": SAMPLE_RATE}
        write_audio(folder / row["audio"], read_audio(sample["audio"], SAMPLE_RATE), SAMPLE_RATE)
    return row


def _plain(value: Any) -> Any:
    """A JSON value: tensors become numbers or lists, paths become text."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return value.tolist()
    return str(value) if isinstance(value, Path) else value


def _to_image(image: Any) -> Image.Image:
    """A path, or a tensor (3, H, W) float in [0, 1] or uint8, as an RGB image."""
    if not isinstance(image, Tensor):
        return Image.fromarray(read_image(image).permute(1, 2, 0).numpy())
    pixels = image.detach().cpu()
    if pixels.is_floating_point():
        pixels = (pixels.float().clamp(0, 1) * 255).round()
    return Image.fromarray(pixels.to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


def caption(row: Mapping[str, Any]) -> str:
    """The fields of a sample in one line, without media and times."""
    return " | ".join(f"{key}: {value}" for key, value in row.items() if key not in (*MEDIA, "sample_rate", "words"))


def _show_wandb(logger: Any, stage: str, folder: Path, rows: Sequence[Row], step: int) -> None:
    """Log a table of texts, a panel of images and a panel of audio."""
    columns = sorted({key for row in rows for key in row})
    table = [[str(row.get(key, "")) for key in columns] for row in rows]
    logger.log_text(key=f"{stage}/samples/texts", columns=columns, data=table)
    for media, panel, show in (("image", "pictures", logger.log_image), ("audio", "sounds", logger.log_audio)):
        some = [row for row in rows if media in row]
        if some:
            files = [str(folder / row[media]) for row in some]
            show(f"{stage}/samples/{panel}", files, caption=[caption(row) for row in some])


def _show_tensorboard(logger: Any, stage: str, folder: Path, rows: Sequence[Row], step: int) -> None:
    """Log texts, images and audio, one tag a sample."""
    for number, row in enumerate(rows):
        tag = f"{stage}/samples/{number}"
        logger.experiment.add_text(tag, caption(row), step)
        if "image" in row:
            logger.experiment.add_image(tag, read_image(folder / row["image"]), step)
        if "audio" in row:
            rate = row["sample_rate"]
            logger.experiment.add_audio(tag, read_audio(folder / row["audio"], rate)[None], step, sample_rate=rate)


#: Logger type -> function that logs samples to it.
SHOW: dict[type, Callable[[Any, str, Path, Sequence[Row], int], None]] = {
    WandbLogger: _show_wandb,
    TensorBoardLogger: _show_tensorboard,
}
