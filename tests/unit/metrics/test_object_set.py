"""F1 of captions' objects."""

import math

from muomni.metrics.object_set import object_set_f1

RED = {"size": "big", "colour": "red", "shape": "circle", "cell": 0}
BLUE = {"size": "small", "colour": "blue", "shape": "star", "cell": 1}
GREY = {"size": "small", "colour": None, "shape": "star", "cell": 1}


def score(caption, truth, *more):
    captions, truths = zip((caption, truth), *more, strict=True)
    return object_set_f1(captions, truths)


def test_order_and_wording_do_not_matter():
    assert score("you can see a small blue star at the top left and a big red circle", [RED, BLUE]) == 100


def test_swapped_attributes_are_wrong():
    assert score("a big blue circle and a small red star", [RED, BLUE]) == 0


def test_missing_and_invented_objects_cost():
    assert score("a big red circle", [RED, BLUE]) == 100 * 2 / 3
    assert score("a big red circle and a big red circle", [RED], ("", [BLUE])) == 50


def test_grey_objects_have_no_colour():
    assert score("a small star", [GREY], ("a big red circle", [RED])) == 100


def test_nothing_is_nan():
    assert math.isnan(object_set_f1([], []))
