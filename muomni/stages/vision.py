"""Contrastive pretraining of the picture encoder: picture <-> caption.

Two symmetric InfoNCE losses: of whole pictures and whole captions (Radford et al. 2021, arXiv:2103.00020), and of their
parts, every word with its best cell (after Yao et al. 2022, arXiv:2111.07783), which teaches what is where.

Legend: B batch, D width of the encoder.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from muomni.batch import ImageTextBatch
from muomni.distributed import collectives
from muomni.losses.contrastive import cosine, equal_pairs, fingerprints, info_nce, late_interaction
from muomni.metrics.linear_probe import LinearProbe
from muomni.metrics.retrieval import Item, Retrieval
from muomni.models.outputs import TextTowerOutput
from muomni.models.projector import ImageHead
from muomni.models.text_tower import TextTower
from muomni.models.vision import VisionTransformer
from muomni.nn.conv import frame_mask
from muomni.nn.patch import gather_cells
from muomni.stages.base import Stage

SCORES = ("late", "global")
PROBED = ("colour", "shape")
CELLS = 3  # the world's pictures have 3 x 3 places
SHOWN = 4  # pictures of a split that `samples` gives


class VisionStage(Stage):
    """Symmetric InfoNCE with learned, clamped temperatures. Equal captions, and equal pictures, of a batch are no negatives.

    Metrics of a split (percent): `r1_image_to_text`, `r1_text_to_image` among `r1_candidates` neighbouring rows (pictures
    and their twins): `candidates`, or all of a smaller split; where the manifest names the objects, what a linear probe
    fitted on `probe_split` reads: `probe_colour`, `probe_shape` of an object from the features of its cell, `probe_place`
    whether a cell is taken.

    Args:
        model, text_tower, image_head: the parts. score: "late" trains both losses and ranks by the parts' similarity;
            "global" is plain CLIP.
        temperature: at the start. min_temperature: the lowest. candidates: of a retrieval.
        probe_split: name of the test split that the probes are fitted on; it must come first.
        image, tokenizer, tokenizer_fingerprint: facts of the datamodule.
    """

    name = "vision"
    gathered = ("_objects", "_pairs")

    def __init__(
        self,
        *,
        model: VisionTransformer,
        text_tower: TextTower,
        image_head: ImageHead,
        score: str,
        temperature: float,
        min_temperature: float,
        candidates: int,
        probe_split: str,
        image: Mapping[str, Any],
        tokenizer: Path,
        tokenizer_fingerprint: str,
        **how: Any,
    ) -> None:
        super().__init__(**how)
        if score not in SCORES:
            raise ValueError(f"score={score!r}; available: {', '.join(SCORES)}")
        self.model, self.text_tower, self.image_head = model, text_tower, image_head
        self.score, self.candidates, self.probe_split = score, candidates, probe_split
        self.log_scales = nn.Parameter(torch.full((len(SCORES),), math.log(1 / temperature)))
        self.max_log_scale = math.log(1 / min_temperature)
        self.image, self.tokenizer, self.tokenizer_fingerprint = dict(image), Path(tokenizer), tokenizer_fingerprint
        self._probes: dict[str, LinearProbe] = {}

    def optional_modules(self) -> dict[str, nn.Module]:
        """What only the losses of the parts read."""
        return {"image_tokens": self.image_head.token_head, "text_tokens": self.text_tower.token_head}

    def reached(self, batch: ImageTextBatch) -> set[str]:
        """All of it, or none."""
        return set(self.optional_modules()) if self.score == "late" else set()

    def sharded_modules(self) -> list[nn.Module]:
        """The blocks."""
        return [*self.model.transformer.blocks, *self.text_tower.transformer.blocks]

    def compiled_modules(self) -> list[nn.Module]:
        """The encoder; captions differ in length from batch to batch."""
        return [self.model]

    def step(self, batch: ImageTextBatch) -> dict[str, Tensor]:
        """`global` and, unless score is "global", `late`."""
        whole, cells = self.image_head(self.model(batch.images))
        text: TextTowerOutput = self.text_tower(batch.ids, batch.lengths)
        scales = self._log_scales().exp()
        # Every picture is compared with the captions of all ranks.
        equal = equal_pairs(*(collectives.all_gather_cat(each) for each in self._keys(batch)))
        whole, pooled = collectives.all_gather_cat(whole.float()), collectives.all_gather_cat(text.pooled.float())
        losses = {"global": info_nce(cosine(whole, pooled), scales[0], equal=equal)}
        if self.score == "late":
            parts = (collectives.all_gather_cat(each) for each in (cells.float(), text.tokens.float(), text.keep))
            real = batch.real if collectives.world_size() == 1 else None  # of this rank's captions alone
            losses["late"] = info_nce(late_interaction(*parts, real=real), scales[1], equal=equal)
        return losses

    def _log_scales(self) -> Tensor:
        """Within the limit, with the gradient of what is beyond it: a clamp's gradient there is 0, and would stay so."""
        return self.log_scales + (self.log_scales.clamp(max=self.max_log_scale) - self.log_scales).detach()

    def on_train_batch_end(self, *_: Any) -> None:
        """The parameter itself stays within the limit, so that the way back is not long (as in CLIP's code)."""
        with torch.no_grad():
            self.log_scales.clamp_(max=self.max_log_scale)

    def _keys(self, batch: ImageTextBatch) -> tuple[Tensor, Tensor]:
        """(B) of the pictures, (B) of the captions: the same for the same. Pictures in memory are float16."""
        keep = frame_mask(batch.lengths, batch.ids.shape[1])
        return fingerprints(batch.images.half()), fingerprints((batch.ids + 1) * keep)

    def loss_names(self) -> tuple[str, ...]:
        """See `step`."""
        return ("global", "late")

    # --- measuring -----------------------------------------------------------------------------------------------

    def begin_split(self, split: str) -> None:
        """Nothing gathered yet."""
        self._objects: dict[str, tuple[list[Tensor], list[str]]] = {key: ([], []) for key in (*PROBED, "place")}
        self._pairs: list[Item] = []
        self._retrieval = Retrieval(self.candidates, functools.partial(self._compare, split))
        self._shown = [sample for sample in self._shown if sample["split"] != split]

    @torch.no_grad()
    def test_batch(self, batch: ImageTextBatch, split: str) -> None:
        """Rank pictures and captions; gather the probes' features."""
        features = self.model(batch.images)
        if split != self.probe_split:
            self._pairs += self._items(batch, *self.image_head(features))
            if collectives.num_processes() == 1:  # the pools of several processes are theirs together
                self._retrieval.add(self._pairs)
                self._pairs = []
        if self.model.side % CELLS == 0 and any(batch.objects):
            self._gather(gather_cells(features.grid, CELLS).flatten(2), batch.objects)

    def _items(self, batch: ImageTextBatch, whole: Tensor, cells: Tensor) -> list[Item]:
        """What is ranked of each pair, without what it shares memory with."""
        text: TextTowerOutput = self.text_tower(batch.ids, batch.lengths)
        lengths, keys = batch.lengths.tolist(), [each.tolist() for each in self._keys(batch)]
        late = self.score == "late"
        return [
            {
                "image": (cells if late else whole)[row].float().clone(),
                "text": (text.tokens[row, :length] if late else text.pooled[row]).float().clone(),
                "keys": (keys[0][row], keys[1][row]),
                "group": batch.groups[row] if batch.groups else batch.sample_ids[row],
                "shown": (batch.sample_ids[row], batch.paths[row], batch.captions[row]),
            }
            for row, length in enumerate(lengths)
        ]

    def _compare(self, split: str, items: Sequence[Item]) -> tuple[Tensor, Tensor]:
        """Similarity and equality of a pool, (C, C) each."""
        images, texts = torch.stack([item["image"] for item in items]), [item["text"] for item in items]
        if self.score == "late":
            lengths = torch.tensor([len(text) for text in texts], device=images.device)
            tokens = nn.utils.rnn.pad_sequence(texts, batch_first=True)
            similarity = late_interaction(images, tokens, frame_mask(lengths, tokens.shape[1]))
        else:
            similarity = cosine(images, torch.stack(texts))
        self._show(items, similarity, split)
        keys = torch.tensor([item["keys"] for item in items], device=images.device)
        return similarity, equal_pairs(keys[:, 0], keys[:, 1])

    def _gather(self, cells: Tensor, objects: list[list[dict[str, Any]]]) -> None:
        """Features (n, D) and labels of the probes: cells (B, 9, D)."""
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
                self._objects[key][0].append(cells[rows, columns])  # copies: views would keep the whole batch
                self._objects[key][1].extend(labels)

    def _show(self, items: Sequence[Item], similarity: Tensor, split: str) -> None:
        if any(sample["split"] == split for sample in self._shown):
            return
        for item, best in zip(items[:SHOWN], similarity.argmax(dim=1).tolist(), strict=False):
            name, path, caption = item["shown"]
            answer = {"answer": items[best]["shown"][2], "truth": caption}
            self._shown.append({"split": split, "id": name, "question": "which caption?", "image": path, **answer})

    def finish_split(self, split: str) -> dict[str, float]:
        """Recalls and probes; the split that the probes are fitted on has no metrics."""
        if split == self.probe_split:
            for key, (features, labels) in self._objects.items():
                if labels:
                    self._probes[key] = LinearProbe(torch.cat(features), labels, ridge=10.0)
            return {}
        if collectives.num_processes() > 1:
            self._retrieval = Retrieval(self.candidates, functools.partial(self._compare, split))
        self._retrieval.add(self._pairs)
        image_to_text, text_to_image = self._retrieval.finish()
        metrics = {
            "r1_image_to_text": image_to_text,
            "r1_text_to_image": text_to_image,
            "r1_candidates": float(self._retrieval.size),
        }
        for key, probe in self._probes.items():
            features, labels = self._objects[key]
            if labels:
                metrics[f"probe_{key}"] = probe.accuracy(torch.cat(features), labels)
        return metrics

    def samples(self) -> list[dict[str, Any]]:
        """A few pictures with the caption that the model chose."""
        return self._shown

    # --- handing over --------------------------------------------------------------------------------------------

    def export_parts(self) -> dict[str, nn.Module]:
        """The encoder; the text side too, for retrieval."""
        return {"vision": self.model, "text_tower": self.text_tower, "image_head": self.image_head}

    def export_facts(self) -> dict[str, Any]:
        """The pictures' frontend and the tokenizer."""
        return {"stage": self.name, "image": self.image, "tokenizer": self.tokenizer_fingerprint}

    def export_files(self) -> dict[str, Path]:
        """The captions' tokenizer."""
        return {"tokenizer.model": self.tokenizer}
