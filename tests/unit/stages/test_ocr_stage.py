"""Reading on a tiny model: it learns two pictures apart, and its controls do not."""

from functools import partial

import torch

from muomni.batch import OcrBatch
from muomni.evaluation.ocr import OcrEvaluator
from muomni.inference.ocr import read_images
from muomni.models.ocr import Ocr
from muomni.optim.optimizers import adamw
from muomni.optim.schedule import warmup_stable_decay
from muomni.special_tokens import BOS, EOS, IGNORE, PAD, PIECES
from muomni.stages.ocr import OcrStage
from muomni.stages.training_options import TrainingOptions
from tests.measure import measure


def make():
    torch.manual_seed(0)
    return OcrStage(
        model=Ocr(num_symbols=len(PIECES) + 98, max_characters=4, image_size=8, patch=4, stem_channels=[], stem_patch=2,
                  encoder_layers=1, num_layers=1, dim=16, num_heads=2, ff_dim=32),
        evaluator=partial(OcrEvaluator, read=read_images), image={"size": 8},
        training=TrainingOptions(
            optimizer=partial(adamw, lr=1e-2, betas=(0.9, 0.98), adam_ratio=1.0),
            schedule=partial(warmup_stable_decay, max_steps=60, warmup_steps=2, decay_fraction=0.4, final=0.1),
            weight_decay=0.0, loss_weights={}, compile_model=False,
        ),
    )  # fmt: skip


def batch():
    torch.manual_seed(1)
    a, b = len(PIECES) + 65, len(PIECES) + 66  # "a", "b"
    return OcrBatch(
        images=torch.randn(2, 3, 8, 8), ids=torch.tensor([[BOS, a, b], [BOS, b, PAD]]),
        targets=torch.tensor([[a, b, EOS], [b, EOS, IGNORE]]), texts=["ab", "b"], paths=["0.png", "1.png"],
        sample_ids=["s0", "s1"],
    )  # fmt: skip


def test_it_learns_to_read_and_the_controls_do_not():
    stage, data = make(), batch()
    optimizer = stage.configure_optimizers()["optimizer"]
    for _ in range(60):
        optimizer.zero_grad()
        stage.total_loss(stage.step(data)).backward()
        optimizer.step()
    stage.eval()
    metrics = measure(stage, data)
    assert metrics["cer"] == 0 and metrics["exact"] == 100
    assert metrics["cer_blind"] > 0 and metrics["cer_shuffled"] > 0 and metrics["exact_majority"] == 50
    assert [sample["answer"] for sample in stage.evaluator.examples] == ["ab", "b"]
    assert set(stage.export_modules()) == {"ocr"} and stage.export_metadata() == {"stage": "ocr", "image": {"size": 8}}
