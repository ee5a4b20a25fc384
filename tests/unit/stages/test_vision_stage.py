"""Contrastive stage on tiny parts: losses, metrics, hand-over."""

import math
import pickle
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from muomni.batch import ImageTextBatch
from muomni.distributed import collectives
from muomni.evaluation.vision import VisionEvaluator
from muomni.models.conv_vision import ConvEncoder
from muomni.models.projector import ImageHead
from muomni.models.text_tower import TextTower
from muomni.models.vision import VisionTransformer
from muomni.optim.optimizers import adamw
from muomni.optim.schedule import warmup_stable_decay
from muomni.stages.training_options import TrainingOptions
from muomni.stages.vision import VisionStage
from tests.measure import measure

COLOURS = ("red", "blue", "green", "white")


def make(**changes):
    torch.manual_seed(0)
    options = {
        "model": VisionTransformer(image_size=12, patch=4, dim=16, num_layers=1, num_heads=2, ff_dim=32),
        "text_tower": TextTower(
            vocab_size=30, dim=16, num_layers=1, num_heads=2, ff_dim=32, embed_dim=8, max_length=8
        ),
        "image_head": ImageHead(dim=16, embed_dim=8, pool="mean", grid=3),
        "score": "late", "temperature": 0.07, "min_temperature": 0.01,
        "evaluator": partial(VisionEvaluator, candidates=changes.pop("candidates", 4), probe_split="probe"),
        "image": {"size": 12}, "tokenizer": "tokenizer.model", "tokenizer_fingerprint": "f00",
        "training": TrainingOptions(
            optimizer=partial(adamw, lr=1e-2, betas=(0.9, 0.98), adam_ratio=1.0),
            schedule=partial(warmup_stable_decay, max_steps=60, warmup_steps=2, decay_fraction=0.4, final=0.1),
            weight_decay=0.0, loss_weights={}, compile_model=False,
        ),
    }  # fmt: skip
    return VisionStage(**(options | changes))


def batch():
    """Four pictures, each one colour in one cell; the caption is a token for the colour and one for the cell."""
    torch.manual_seed(1)
    images = torch.zeros(4, 3, 12, 12)
    tints = torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0], [1.0, 1.0, 1.0]])
    for row in range(4):
        images[row, :, 4 * row // 3 * 1 : 4, 4 * (row % 3) : 4 * (row % 3) + 4] = tints[row][:, None, None]
    return ImageTextBatch(
        images=images, ids=torch.tensor([[10 + row, 20 + row] for row in range(4)]), lengths=torch.full((4,), 2),
        captions=[f"{colour} dot" for colour in COLOURS], paths=[f"{row}.png" for row in range(4)],
        objects=[[{"colour": COLOURS[row], "shape": "dot", "size": "big", "cell": row % 3}] for row in range(4)],
        sample_ids=[f"s{row}" for row in range(4)],
    )  # fmt: skip


def test_it_learns_to_tell_pictures_apart():
    stage, data = make(), batch()
    optimizer = stage.configure_optimizers()["optimizer"]
    first = stage.total_loss(stage.step(data)).item()
    for _ in range(60):
        optimizer.zero_grad()
        stage.total_loss(stage.step(data)).backward()
        optimizer.step()
    assert stage.total_loss(stage.step(data)).item() < 0.5 * first
    stage.eval()
    metrics = measure(stage, data, split="test_iid")
    assert metrics["r1_image_to_text"] == 100 and metrics["r1_text_to_image"] == 100
    shown = stage.evaluator.examples[0]
    assert shown["answer"] == shown["truth"] == "red dot" and shown["image"] == "0.png"


def test_probes_are_fitted_on_their_split_alone():
    stage, data = make().eval(), batch()
    assert "probe_colour" not in measure(stage, data, split="test_iid")
    assert measure(stage, data, split="probe") == {}
    assert {"probe_colour", "probe_shape", "probe_place"} < set(measure(stage, data, split="test_iid"))


def test_plain_clip_has_one_loss_and_an_unknown_score_is_refused():
    assert set(make(score="global").step(batch())) == {"global"}
    assert set(make().step(batch())) == {"global", "late"}
    with pytest.raises(ValueError, match="score='all'; available: late, global, captions"):
        make(score="all")


def conv(**changes):
    torch.manual_seed(0)
    encoder = ConvEncoder(image_size=12, patch=4, dim=16, stem_width=12, widths=[8, 12], num_blocks=1)
    measured = partial(
        VisionEvaluator, candidates=4, probe_split="probe", classify=True, flip=changes.pop("flip", False)
    )
    return make(**({"model": encoder, "score": "captions", "label_smoothing": 0.1, "evaluator": measured} | changes))


@pytest.mark.parametrize("flip", [False, True])
def test_a_convolutional_encoder_learns_to_choose_captions(flip):
    """Eight images of four captions, two of each; their accuracy, one by one and where a caption names no image."""
    stage, data = conv(flip=flip), batch()
    data.images = torch.cat([data.images, data.images.flip(-1)]) + 0.1 * torch.randn(8, 3, 12, 12)
    for name in ("ids", "lengths"):
        setattr(data, name, torch.cat([getattr(data, name)] * 2))
    for name in ("captions", "paths", "objects", "sample_ids"):
        setattr(data, name, getattr(data, name) * 2)
    stage.model.whiten(data.images)
    optimizer = stage.configure_optimizers()["optimizer"]
    for _ in range(60):
        optimizer.zero_grad()
        losses = stage.step(data)
        stage.total_loss(losses).backward()
        optimizer.step()
    assert set(losses) == {"captions"} and losses["captions"] < 0.7 < math.log(4)
    stage.eval()
    assert measure(stage, data)["accuracy"] == 100
    data.captions = [*data.captions[:4], "red dot", "red dot", *data.captions[6:]]
    assert measure(stage, data)["accuracy"] == pytest.approx(100 * 7 / 8)
    assert "accuracy" not in measure(make().eval(), batch())


def test_the_stem_is_whitened_once_by_the_first_batch_of_a_training():
    stage, data = conv(), batch()
    before = stage.model.whitening.clone()
    for step, batch_index, changed in ((0, 0, True), (1, 1, False), (5, 0, False)):
        stage._trainer = SimpleNamespace(global_step=step)
        stage.model.whitening.copy_(before)
        stage.on_train_batch_start(data, batch_index)
        assert torch.equal(stage.model.whitening, before) != changed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing=1.0: a share"),
        ({"score": "late"}, "contrastive=captions alone reads it"),
    ],
)
def test_label_smoothing_that_nothing_reads_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        conv(**options)


def test_the_temperature_keeps_its_limit_and_its_gradient():
    """Beyond the limit the loss is that at the limit, and the gradient leads back; a step cannot leave it behind."""
    stage, data = make(), batch()
    data.ids = data.ids.flip(0)  # wrong captions: the scales must fall
    stage.log_scales.data.fill_(stage.max_log_scale)
    limit = stage.total_loss(stage.step(data))
    stage.log_scales.data.fill_(100.0)
    beyond = stage.total_loss(stage.step(data))
    beyond.backward()
    assert torch.isfinite(beyond) and beyond.item() == pytest.approx(limit.item(), rel=1e-5)
    assert (stage.log_scales.grad > 0).all()
    stage.on_train_batch_end(None, data, 0)
    assert torch.equal(stage.log_scales.detach(), torch.full((2,), stage.max_log_scale))


def test_equal_captions_and_equal_pictures_of_a_batch_are_no_negatives():
    """Four pictures twice, each with the same caption both times: the loss of four pairs, but for the weights of rows."""
    stage, data = make(), batch()
    single = {name: loss.item() for name, loss in stage.step(data).items()}
    data.images, data.ids, data.lengths = (torch.cat([x, x]) for x in (data.images, data.ids, data.lengths))
    wanted = [2 * (math.exp(loss) - 1) + 1 for loss in single.values()]  # each negative stands there twice
    found = [math.exp(loss.item()) for loss in stage.step(data).values()]
    assert all(1 < value <= most + 1e-3 for value, most in zip(found, wanted, strict=True))


def test_retrieval_counts_equals_as_right_and_does_not_depend_on_batches():
    """Four pictures five times over, told apart: R@1 is 100 among ten."""
    stage, data = make(candidates=10), batch()
    optimizer = stage.configure_optimizers()["optimizer"]
    for _ in range(60):
        optimizer.zero_grad()
        stage.total_loss(stage.step(data)).backward()
        optimizer.step()
    stage.eval()
    for batches in (5, 1):
        stage.evaluator.reset("test_iid")
        for _ in range(batches):
            many = 5 // batches
            data = batch()
            data.images, data.ids = data.images.repeat(many, 1, 1, 1), data.ids.repeat(many, 1)
            data.lengths = data.lengths.repeat(many)
            data.captions, data.paths, data.objects, data.sample_ids = (
                each * many for each in (data.captions, data.paths, data.objects, data.sample_ids)
            )
            stage.evaluator.update(data)
        metrics = stage.evaluator.compute()
        assert metrics["r1_candidates"] == 10
        assert metrics["r1_image_to_text"] == 100 and metrics["r1_text_to_image"] == 100


def pieces(count):
    """Twelve pictures of noise in `count` batches, in twins."""
    generator = torch.Generator().manual_seed(3)
    images, ids = torch.randn(12, 3, 12, 12, generator=generator), torch.randint(10, 30, (12, 3), generator=generator)
    for rows in torch.arange(12).chunk(count):
        names = [str(int(row)) for row in rows]
        yield ImageTextBatch(
            images=images[rows], ids=ids[rows], lengths=torch.full((len(rows),), 3), captions=names, paths=names,
            objects=[[]] * len(rows), sample_ids=names, groups=[str(int(row) // 2) for row in rows],
        )  # fmt: skip


@pytest.mark.parametrize("score", ["late", "global"])
def test_several_processes_measure_what_one_does(score, monkeypatch):
    alone = make(candidates=5, score=score).eval()
    wanted = measure(alone, *pieces(3), split="test_iid")
    assert wanted["r1_candidates"] == 5
    monkeypatch.setattr(collectives, "num_processes", lambda: 2)
    states, batches = [], list(pieces(4))
    for share in (batches[:1], batches[1:]):
        stage = make(candidates=5, score=score).eval()
        stage.evaluator.reset("test_iid")
        for data in share:
            stage.evaluator.update(data)
        states.append(pickle.loads(pickle.dumps(stage.evaluator.state)))
    stage.evaluator.reset("test_iid")
    for state in states:
        stage.evaluator.merge(state)
    assert stage.evaluator.compute() == wanted
    assert stage.evaluator.examples == alone.evaluator.examples


def test_what_is_sent_of_a_split_is_no_more_than_what_was_gathered(monkeypatch):
    """A cell is cut out of its batch, a caption out of its padding, and neither carries a gradient."""
    monkeypatch.setattr(collectives, "num_processes", lambda: 2)
    stage, (data,) = make().eval(), pieces(1)
    data.objects = [[{"colour": "red", "cell": 4}]] * 12
    stage.evaluator.reset("test_iid")
    stage.evaluator.update(data)
    state = stage.evaluator.state
    tensors = [item[side] for item in state.pairs for side in ("image", "text")]
    tensors += [each for probe in state.probes.values() for each in probe.features]
    assert len(tensors) == 24 + 2
    for tensor in tensors:
        assert tensor.device.type == "cpu" and not tensor.requires_grad
        assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_hand_over():
    stage = make()
    assert list(stage.export_modules()) == ["vision", "text_tower", "image_head"]
    assert stage.export_metadata() == {"stage": "vision", "image": {"size": 12}, "tokenizer": "f00"}
