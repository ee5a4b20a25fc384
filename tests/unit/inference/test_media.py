"""Pictures as an export was trained on them: what is not seen of one is said, what an older export does not say is known."""

import numpy as np
import pytest
import torch
from PIL import Image

from muomni.frontends.image import ImageSpec
from muomni.inference.media import Media, spec_from_metadata

SPEC = {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}


def noise(path, size):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(path)
    return path


def test_what_an_export_does_not_see_of_a_picture_is_said(tmp_path, caplog):
    wide = noise(tmp_path / "wide.png", (128, 32))
    Media(image=ImageSpec(**SPEC), mel=None).images([wide, torch.zeros(3, 8, 8, dtype=torch.uint8)])
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{wide}: 128 x 32, 75 % of it is not used: this export takes the centre square")
    caplog.clear()
    Media(image=ImageSpec(**SPEC, fit="letterbox"), mel=None).images([wide])
    assert not caplog.records


def test_facts_that_an_older_export_lacks_are_as_it_was_trained():
    spec = spec_from_metadata(ImageSpec, {"image": SPEC | {"fit": "crop"}}, "image", where="x")
    assert (spec.fit, spec.matte) == ("crop", "black")
    clear = Image.new("RGBA", (32, 32))
    assert float(Media(image=spec, mel=None).images([clear]).max()) == -1
    white = ImageSpec(**SPEC, matte="white")
    assert float(Media(image=white, mel=None).images([clear]).min()) == 1
    with pytest.raises(ValueError, match=r"x: the facts of 'image' differ .* \['colour'\]"):
        spec_from_metadata(ImageSpec, {"image": SPEC | {"colour": 1}}, "image", where="x")


def test_a_pillow_image_that_cannot_be_decoded_is_one_line(tmp_path):
    whole = noise(tmp_path / "a.jpg", (64, 64)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[:-300])
    with pytest.raises(ValueError, match=r"image: cannot read .*cut\.jpg: "):
        Media(image=ImageSpec(**SPEC), mel=None).images([Image.open(tmp_path / "cut.jpg")])
