"""Scenes, pictures, captions, questions: truth, held-out pairs, balance, complementary pairs."""

import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from datamodules.world import WorldSpec, lexicon
from datamodules.world.captions import CAPTION_SHARES, caption, describe, object_records
from datamodules.world.complements import Complements
from datamodules.world.draw import COLOUR_VALUES, draw_digit, draw_picture
from datamodules.world.instructions import Instructions
from datamodules.world.pictures import PictureWorld
from datamodules.world.prompts import SPOKEN_COUNT_ALL_KEPT, SPOKEN_SHARES
from datamodules.world.questions import TYPES, candidates, draw_question, keep_shares
from datamodules.world.rng import Choices, item_rng
from datamodules.world.scene import (
    Pairs,
    Thing,
    draw_pair,
    draw_scene,
    draw_twins,
    scene_split,
    swap_places,
    without_colours,
)
from datamodules.world.wording import Wording

WORDING = Wording(rotation=0, canonical=0.5)
PAIRS = Pairs(rotation=0, held_out=6)
SCENE = (Thing(0, 0, 1, 0), Thing(2, 1, 0, 4), Thing(2, 0, 0, 8))  # red circle, blue square, blue circle


def choices(index: int) -> Choices:
    return Choices(item_rng(0, "test", "scene tests", index))


@pytest.mark.parametrize("held_out", [6, 12])
@pytest.mark.parametrize("rotation", [0, 5])
def test_held_out_pairs_leave_every_colour_and_shape_and_follow_the_rotation(rotation: int, held_out: int) -> None:
    pairs = Pairs(rotation=rotation, held_out=held_out)
    assert len(pairs.held_out) == held_out
    assert all(pairs.shapes_of)
    assert all(pairs.colours_of)
    assert pairs.held_out != Pairs(rotation=(rotation + 1) % 8, held_out=held_out).held_out
    drawn = {draw_pair(choices(index), pairs) for index in range(2000)}
    assert len(drawn) == 48 - held_out
    assert not drawn & pairs.held_out


def test_twins_differ_in_two_colours_only_and_share_their_split() -> None:
    for index in range(200):
        first, second = draw_twins(choices(index), PAIRS)
        changed = [n for n in range(len(first)) if first[n] != second[n]]
        assert len(changed) == 2
        assert [first[n].colour for n in changed] == [second[n].colour for n in reversed(changed)]
        assert first[changed[0]].size == first[changed[1]].size
        assert first[changed[0]].shape != first[changed[1]].shape
        assert PAIRS.allows(first)
        assert PAIRS.allows(second)
        assert scene_split(0, first) == scene_split(0, second)


def test_training_pictures_hold_no_held_out_pair_and_splits_are_by_content(spec: WorldSpec) -> None:
    world = PictureWorld(spec)
    for split in ("train", "val", "test_iid", "test_comp", "test_count"):
        for index in range(60):
            scene, _ = world.scene(split, index)
            if scene[0].colour is not None:
                assert scene_split(spec.seed, scene) == split.split("_")[0]
            if split == "test_comp":
                pair = world.scene(split, index // 2 * 2)[0]
                assert not PAIRS.allows(pair)
            else:
                assert PAIRS.allows(scene)
            assert len(scene) == 5 if split == "test_count" else 1 <= len(scene) <= (5 if split == "train" else 4)


def test_monochrome_share_is_kept_and_all_of_test_iid_are_twins() -> None:
    world = PictureWorld(WorldSpec.of("ci", monochrome=0.15))
    scenes = [world.scene("train", index) for index in range(800)]
    assert 0.1 < sum(scene[0].colour is None for scene, _ in scenes) / 800 < 0.2
    assert 0.4 < sum(twin for _, twin in scenes) / 800 < 0.6
    assert all(world.scene("test_iid", index)[1] for index in range(20))
    assert not any(
        PictureWorld(WorldSpec.of("ci", monochrome=0)).scene("train", i)[0][0].colour is None for i in range(200)
    )


def test_five_things_are_counted_aloud_and_in_writing_only_by_name(tmp_path: Path) -> None:
    """Typed questions of test_count count all of them."""
    spec = WorldSpec.of("ci", crowded=0.4, train_pictures=400, digits=0)
    instructions = Instructions(spec, tmp_path)
    crowded = [index for index in range(400) if len(instructions.pictures.scene("train", index)[0]) == 5]
    assert 120 < len(crowded) < 200
    typed = [instructions.image_qa("train", index) for index in crowded]
    counts = [(row["meta"]["reference"], row["answer"]) for row in typed if row["meta"]["question"] == "count"]
    assert {reference for reference, _ in counts} == {"attribute"}
    assert counts.count(("attribute", "5")) > 20
    scenes = (instructions.pictures.scene("train", index)[0] for index in crowded)
    spoken = [
        instructions.draw_question(choices(n), scene, SPOKEN_SHARES, all_kept=SPOKEN_COUNT_ALL_KEPT)
        for n, scene in enumerate(scenes)
    ]
    assert any((question.words, question.answer) == ("objects", "5") for question in spoken)
    tested = [Complements(spec).pair("test_count", "count", index)[0][0].question for index in range(20)]
    assert {(question.words, question.answer) for question in tested} == {("objects", "5")}


def test_digits_option_sets_the_share_of_written_digits() -> None:
    shares = [
        sum(PictureWorld(WorldSpec.of("ci", digits=digits)).digit("train", index) is not None for index in range(600))
        / 600
        for digits in (0.0, 0.3)
    ]
    assert shares[0] == 0
    assert 0.2 < shares[1] < 0.4


def test_a_picture_shows_each_thing_in_its_colour_at_its_cell() -> None:
    for size in (32, 64):
        picture = np.asarray(draw_picture(SCENE, random.Random(0), size=size)).astype(int)
        edges = [range(part * size // 3 + 2, (part + 1) * size // 3 - 1) for part in range(3)]  # blurred borders aside
        cells = [picture[np.ix_(edges[cell // 3], edges[cell % 3])] for cell in range(9)]
        for cell, pixels in enumerate(cells):
            thing = next((thing for thing in SCENE if thing.cell == cell), None)
            if thing is None:
                assert pixels.max() < 60
            else:
                brightest = pixels.reshape(-1, 3)[pixels.sum(-1).argmax()]
                colour = np.argmin([np.abs(brightest - np.array(value)).sum() for value in COLOUR_VALUES])
                assert colour == thing.colour


def test_a_monochrome_picture_is_grey_and_shapes_differ() -> None:
    grey = np.asarray(draw_picture(without_colours(SCENE), random.Random(0), size=64))
    assert (grey[..., 0] == grey[..., 1]).all()
    assert (grey[..., 0] == grey[..., 2]).all()
    pictures = [
        np.asarray(draw_picture((Thing(7, shape, 1, 4),), random.Random(0), size=64)) > 128 for shape in range(6)
    ]
    assert all((pictures[a] != pictures[b]).mean() > 0.005 for a in range(6) for b in range(a))
    assert np.asarray(draw_digit(3, 1, random.Random(0), size=32)).max() > 120


def parse_caption(text: str) -> list[dict[str, str | None]]:
    """The objects that a caption names, in its order; None where it does not say."""
    size, colour, shape, place = (
        "|".join(words) for words in (lexicon.SIZES, lexicon.COLOURS, lexicon.SHAPES, lexicon.PLACES)
    )
    found = re.findall(f"({size})(?: ({colour}))? ({shape})(?: at the ({place}))?", text)
    return [
        dict(zip(("size", "colour", "shape", "place"), (word or None for word in words), strict=True))
        for words in found
    ]


def test_the_description_reads_back_as_the_scene() -> None:
    for index in range(100):
        scene = draw_scene(choices(index), PAIRS, count=1 + index % 4)
        truth = [{key: thing[key] for key in ("colour", "shape", "size", "place")} for thing in object_records(scene)]
        assert parse_caption(describe(scene)) == truth
        for kind in CAPTION_SHARES if len(scene) > 1 else ("description", "list"):
            named = parse_caption(caption(choices(index), WORDING, scene, kind=kind, shuffled=0.0))
            assert [(thing["colour"], thing["shape"], thing["size"]) for thing in named] == [
                (thing["colour"], thing["shape"], thing["size"]) for thing in truth
            ]


def test_questions_have_the_answers_of_the_scene() -> None:
    answers = {
        question.text("{a} {relation} {b}").strip(): question.answer
        for kind in TYPES
        for question in candidates(SCENE, kind)
    }
    assert answers["the object at the centre"] == "square"  # asked last as a shape
    assert answers["the red circle"] == "top left"
    assert answers["circles"] == "2"
    assert answers["blue objects"] == "2"
    assert answers["objects"] == "3"
    assert answers["the red circle above the blue square"] == "yes"
    assert answers["the red circle below the blue square"] == "no"
    assert answers["the blue square right of the blue circle"] == "no"
    assert "the circle" not in answers  # there are two


def test_no_question_has_two_answers() -> None:
    for index in range(100):
        scene = draw_scene(choices(index), PAIRS, count=1 + index % 4)
        for kind in TYPES:
            words = [(q.words, q.relation, q.other) for q in candidates(scene, kind)]
            assert len(words) == len(set(words))


def test_answers_of_drawn_questions_are_balanced() -> None:
    world, shares = PictureWorld(WorldSpec.of("small")), keep_shares(0, 6)
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in ("colour", "count", "shape")}
    for index in range(1500):
        scene = world.scene("train", index)[0]
        for kind, counter in counts.items():
            if candidates(scene, kind):
                counter[draw_question(choices(index), scene, kind, shares).answer] += 1
    for kind, limit in (("colour", 0.17), ("count", 0.32), ("shape", 0.21)):
        assert max(counts[kind].values()) / counts[kind].total() < limit, (kind, counts[kind])


@pytest.mark.parametrize("split", ["test_iid", "test_comp"])
@pytest.mark.parametrize("kind", TYPES)
def test_complementary_pairs_have_the_same_words_and_two_answers(split: str, kind: str) -> None:
    complements = Complements(WorldSpec.of("ci"))
    for index in range(12):
        (first, second), complementary = complements.pair(split, kind, index)
        for asked in (first, second):
            assert asked.question in candidates(asked.scene, kind)
            assert scene_split(0, asked.scene) == "test"
            if split == "test_comp" and kind != "count":
                asked_pairs = {(asked.scene[n].colour, asked.scene[n].shape) for n in asked.question.asked}
                assert asked_pairs <= PAIRS.held_out
            elif split == "test_comp":
                assert not PAIRS.allows(asked.scene)
            else:
                assert PAIRS.allows(asked.scene)
        if complementary:
            assert first.question.words == second.question.words
            assert first.question.answer != second.question.answer


def test_swapping_places_keeps_what_stands_there() -> None:
    swapped = swap_places(SCENE, 0, 1)
    assert [(thing.colour, thing.cell) for thing in swapped] == [(2, 0), (0, 4), (2, 8)]
