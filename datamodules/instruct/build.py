"""Manifests of conversations: questions about every row of the sources, in a wording drawn by its id."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from datamodules.formats import Reading
from datamodules.instruct.splits import split_rows
from datamodules.instruct.tasks import ImageQuestions, Question, SpeechQuestions
from datamodules.instruct.wordings import held_out_wordings, seen_wordings
from datamodules.manifests import Row, read_manifest
from datamodules.media import StoredMedia
from datamodules.world.files import write_rows
from datamodules.world.rng import item_rng
from muomni.checkpoints.atomic_write import atomic_write

log = logging.getLogger(__name__)

TASKS = {"object": "image_qa"}  # name of a task in `datamodules/sft.py`, where it is another
OUTPUTS = {"train": "train", "val": "val", "test": "test", "test_wording": "test"}  # manifest -> split of the sources


@dataclass(frozen=True, slots=True)
class Source:
    """A manifest that questions are made of. shape: speech | image_text."""

    path: Path
    shape: str

    @property
    def media(self) -> str:
        return "audio" if self.shape == "speech" else "image"


def build_instructions(
    sources: Sequence[Source], folder: Path, *, seed: int = 0, rounds: int = 1, limit: int = 0
) -> dict[str, Counter[str]]:
    """Write FOLDER/{train,val,test,test_wording}.jsonl; how many questions of each task they hold.

    Media stay where they are, named relative to the folder, absolutely where they are not in its parent; those inside other
    files are written to FOLDER/media.
    rounds: how often training asks each question, in other wordings.
    limit: the most questions of a task and source in a test or in validation, spread evenly; 0: all. `test_wording` asks the
    questions of `test` in wordings that training does not have.
    Raises ValueError for a source that cannot be used (`read_manifest`, `split_rows`).
    """
    if rounds < 1:
        raise ValueError(f"rounds={rounds}: each question occurs at least once")
    if len({source.path for source in sources}) < len(sources):
        raise ValueError("a source is named twice: its questions would be, too")
    written: dict[str, list[Row]] = {name: [] for name in OUTPUTS}
    for number, source in enumerate(sources):
        rows = read_manifest(source.path, shape=source.shape, reading=Reading(labelled=True))
        splits = split_rows(rows, media=source.media, seed=seed, what=str(source.path))
        ask = (SpeechQuestions if source.shape == "speech" else ImageQuestions).of(splits["train"])
        for name, split in OUTPUTS.items():
            pairs = [(row, question) for row in splits[split] for question in ask(row)]
            if name != "train":
                pairs = _evenly(pairs, limit)
            for turn in range(rounds if name == "train" else 1):
                written[name].extend(
                    _conversations(pairs, name, source, folder, seed=seed, turn=turn, prefix=str(number))
                )
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in written.items():
        with atomic_write(folder / f"{name}.jsonl") as path:
            write_rows(path, made)
    return {name: Counter(row["task"] for row in made) for name, made in written.items()}


def _conversations(
    pairs: Sequence[tuple[Row, Question]], name: str, source: Source, folder: Path, *, seed: int, turn: int, prefix: str
) -> Iterator[Row]:
    """prefix: of ids, so that rows of two sources never share one."""
    for index, (row, question) in enumerate(pairs):
        task = question.task
        wordings = held_out_wordings(task) if name == "test_wording" else seen_wordings(task)
        words = item_rng(seed, name, f"wording {task} {turn}", f"{prefix}-{row['id']}-{index}").choice(wordings)
        user = [_media_item(row, source, folder), {"type": "text", "text": words}]
        yield {
            "id": f"{prefix}-{row['id']}-{task}-{index}-{turn}",
            "split": OUTPUTS[name],
            "task": "image_qa" if question.exact else TASKS.get(task, task),
            "messages": [{"role": "user", "content": user}, {"role": "assistant", "content": question.answer}],
            "meta": question.meta,
        }


def _media_item(row: Mapping[str, Any], source: Source, folder: Path) -> dict[str, str]:
    media = row[source.media]
    if isinstance(media, StoredMedia):
        content = media.read()  # named by it: a source that has changed leaves no old picture under a new question
        path = folder / "media" / f"{blake2b(content, digest_size=8).hexdigest()}{media.suffix}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as partial:
                partial.write_bytes(content)
        media = str(path.absolute())
    inside = os.path.relpath(media, os.path.abspath(folder))
    far = inside.startswith(os.path.join("..", ".."))  # manifests name nothing that is out of their parent relatively
    return {"type": source.media, source.media: os.path.abspath(media) if far else inside}


def _evenly(pairs: Sequence[tuple[Row, Question]], limit: int) -> list[tuple[Row, Question]]:
    """At most `limit` questions of each task, spread over all of them; 0: all."""
    if not limit:
        return list(pairs)
    counts = Counter(question.task for _, question in pairs)
    seen: Counter[str] = Counter()
    kept = []
    for row, question in pairs:
        number, total = seen[question.task], counts[question.task]
        seen[question.task] += 1
        if total <= limit or number * limit // total != (number - 1) * limit // total:
            kept.append((row, question))
    return kept
