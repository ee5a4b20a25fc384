"""The image encoder: retrieval of captions and images, and what linear probes read out of its cells.

Legend: B batch, C candidates, P cells of an image, E width of the shared space, D width of the encoder, n objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.batch import ImageTextBatch
from muomni.distributed import collectives
from muomni.evaluation.base import Evaluator, State
from muomni.evaluation.views import ROWS, View, pixels, ranks
from muomni.losses.contrastive import cosine, equal_pairs, late_interaction, pair_keys
from muomni.metrics.linear_probe import LinearProbe
from muomni.metrics.retrieval import Item, Retrieval
from muomni.models.encoders import ImageEncoder
from muomni.models.outputs import TextTowerOutput
from muomni.models.projector import ImageHead
from muomni.models.text_tower import TextTower
from muomni.nn.conv import frame_mask
from muomni.nn.patch import gather_cells

PROBED = ("colour", "shape")
CELLS = 3  # the world's images have 3 x 3 cells
MAX_EXAMPLES = 4  # images
RIDGE = 10.0


@dataclass
class ProbeData:
    """Features (n, D) of cells, batch by batch, and what each cell holds."""

    features: list[Tensor] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


@dataclass
class VisionState(State):
    """pairs: what is not yet ranked. choices: vectors of image and caption (E), and the caption. probes: by what they read."""

    pairs: list[Item] = field(default_factory=list)
    choices: list[tuple[Tensor, Tensor, str]] = field(default_factory=list)
    probes: dict[str, ProbeData] = field(default_factory=lambda: {key: ProbeData() for key in (*PROBED, "place")})


@dataclass(eq=False, repr=False, kw_only=True)
class VisionEvaluator(Evaluator[VisionState]):
    """In percent: `r1_image_to_text`, `r1_text_to_image` among `r1_candidates` neighbouring rows (images and their twins):
    `candidates`, or all of a smaller split; where the manifest names the objects, what a linear probe fitted on `probe_split`
    reads: `probe_colour`, `probe_shape` of an object from the features of its cell, `probe_place` whether a cell is taken.

    Args:
        model, text_tower, image_head: the encoder and what brings both sides to one space.
        late: rank by the similarity of cells and words instead of that of whole images and captions.
        candidates: of a retrieval. classify: the captions of a split name classes; also `accuracy`, the share of images whose
            most similar caption of all distinct ones is theirs, by the vectors of whole images and captions.
        flip: for `accuracy` an image counts as itself and its mirror image together.
        probe_split: the test split that the probes are fitted on, which has no metrics of its own; it must come first.
    """

    model: ImageEncoder
    text_tower: TextTower
    image_head: ImageHead
    late: bool
    candidates: int
    probe_split: str
    classify: bool = False
    flip: bool = False
    _probes: dict[str, LinearProbe] = field(init=False, default_factory=dict)
    state_type = VisionState

    def reset(self, split: str) -> None:
        super().reset(split)
        self.retrieval = Retrieval(self.candidates, self._compare)

    @torch.no_grad()
    def update(self, batch: ImageTextBatch) -> None:
        features, state = self.model(batch.images), self.state
        if self.split != self.probe_split:
            text: TextTowerOutput = self.text_tower(batch.ids, batch.lengths)
            whole, cells = self.image_head(features)
            state.pairs += self._items(batch, whole, cells, text)
            if self.classify:
                self._add_choices(batch, whole, text)
            if collectives.num_processes() == 1:  # the pools of several processes are theirs together
                self._rank()
        if self.model.side % CELLS == 0 and any(batch.objects):
            self._add_cells(gather_cells(features.grid, CELLS).flatten(2), batch.objects)

    def _rank(self) -> None:
        self.retrieval.add(self.state.pairs)
        self.state.pairs = []

    def _add_choices(self, batch: ImageTextBatch, whole: Tensor, text: TextTowerOutput) -> None:
        images = F.normalize(whole.float(), dim=-1)
        if self.flip:
            images = images + F.normalize(self.image_head(self.model(batch.images.flip(-1)))[0].float(), dim=-1)
        vectors = _own(images).unbind(), _own(text.pooled.float()).unbind()
        self.state.choices += zip(*vectors, batch.captions, strict=True)

    def _items(self, batch: ImageTextBatch, whole: Tensor, cells: Tensor, text: TextTowerOutput) -> list[Item]:
        """What is ranked of each pair, without what it shares memory with."""
        keys = [each.tolist() for each in pair_keys(batch.images, batch.ids, batch.lengths)]
        return [
            {
                "image": _own((cells if self.late else whole)[row].float().clone()),
                "text": _own((text.tokens[row, :length] if self.late else text.pooled[row]).float().clone()),
                "keys": (keys[0][row], keys[1][row]),
                "group": batch.groups[row] if batch.groups else batch.sample_ids[row],
                "shown": (batch.sample_ids[row], batch.paths[row], batch.captions[row]),
            }
            for row, length in enumerate(batch.lengths.tolist())
        ]

    def _compare(self, items: Sequence[Item]) -> tuple[Tensor, Tensor]:
        """Similarity and equality of a pool, (C, C) each."""
        images, texts = torch.stack([item["image"] for item in items]), [item["text"] for item in items]
        if self.late:
            lengths = torch.tensor([len(text) for text in texts], device=images.device)
            tokens = nn.utils.rnn.pad_sequence(texts, batch_first=True)
            similarity = late_interaction(images, tokens, frame_mask(lengths, tokens.shape[1]))
        else:
            similarity = cosine(images, torch.stack(texts))
        if not self.state.examples:
            self._add_examples(items, similarity)
        keys = torch.tensor([item["keys"] for item in items], device=images.device)
        return similarity, equal_pairs(keys[:, 0], keys[:, 1])

    def _add_cells(self, cells: Tensor, objects: list[list[dict[str, Any]]]) -> None:
        """Features and labels for the probes: cells (B, 9, D)."""
        things = [(row, thing) for row, each in enumerate(objects) for thing in each]
        picks = {
            key: [(row, thing["cell"], thing[key]) for row, thing in things if thing.get(key) is not None]
            for key in PROBED
        }
        taken = {(row, thing["cell"]) for row, thing in things}
        places = [(row, cell) for row in range(len(objects)) for cell in range(CELLS * CELLS)]
        picks["place"] = [(*place, "taken" if place in taken else "free") for place in places]
        for key, picked in picks.items():
            if picked:
                rows, columns, labels = map(list, zip(*picked, strict=True))
                data = self.state.probes[key]
                data.features.append(_own(cells[rows, columns]))  # copies: views would keep the whole batch
                data.labels.extend(labels)

    @torch.no_grad()
    def views(self, batch: ImageTextBatch) -> list[View]:
        """Images with their captions and the position of each among the captions of the batch."""
        whole, cells = self.image_head(self.model(batch.images))
        text: TextTowerOutput = self.text_tower(batch.ids, batch.lengths)
        if self.late:
            similarity = late_interaction(cells.float(), text.tokens.float(), text.keep)
        else:
            similarity = cosine(whole.float(), text.pooled.float())
        rows = range(min(ROWS, len(batch.images)))
        count = len(batch.images)
        return [
            View("images", f"rank {rank} of {count}: {batch.captions[row]}", pixels(batch.images[row]))
            for row, rank in zip(rows, ranks(similarity, rows), strict=True)
        ]

    def _add_examples(self, items: Sequence[Item], similarity: Tensor) -> None:
        few = items[:MAX_EXAMPLES]
        for item, best, rank in zip(
            few, similarity.argmax(dim=1).tolist(), ranks(similarity, range(len(few))), strict=False
        ):
            name, path, caption = item["shown"]
            shown = {"split": self.split, "id": name, "question": "which caption?", "image": path}
            self.examples.append({**shown, "answer": items[best]["shown"][2], "truth": caption, "rank": rank})

    def compute(self) -> dict[str, float]:
        if self.split == self.probe_split:
            for key, data in self.state.probes.items():
                if data.labels:
                    self._probes[key] = LinearProbe(torch.cat(data.features), data.labels, ridge=RIDGE)
            return {}
        self._rank()
        recalls = zip(("r1_image_to_text", "r1_text_to_image"), self.retrieval.finish(), strict=True)
        metrics = {**dict(recalls), "r1_candidates": float(self.retrieval.size)}
        if self.state.choices:
            metrics["accuracy"] = self._accuracy()
        for key, probe in self._probes.items():
            data = self.state.probes[key]
            if data.labels:
                metrics[f"probe_{key}"] = probe.accuracy(torch.cat(data.features), data.labels)
        return metrics

    def _accuracy(self) -> float:
        images, texts, captions = zip(*self.state.choices, strict=True)
        vectors = dict(zip(reversed(captions), reversed(texts), strict=True))  # of the first of equal captions
        names = list(vectors)
        best = cosine(torch.stack(images), torch.stack(list(vectors.values()))).argmax(dim=1).tolist()
        right = [names[number] == caption for number, caption in zip(best, captions, strict=True)]
        return 100 * sum(right) / len(right)


def _own(x: Tensor) -> Tensor:
    """On the CPU where it will be sent to other processes."""
    return x.cpu() if collectives.num_processes() > 1 else x
