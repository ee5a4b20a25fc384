import numpy as np
import pytest
import torch
from PIL import Image

from muomni.frontends.image import ImageFrontend, ImageSpec, check_image, image_to_tensor, read_image

SPEC = ImageSpec(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def halves(width: int = 40, height: int = 20) -> Image.Image:
    """Red on the left, blue on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[:, width // 2 :, 2] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("mode", "suffix"), [("RGB", "png"), ("P", "png"), ("RGBA", "png"), ("CMYK", "jpg")])
def test_any_mode_keeps_its_colours(tmp_path, mode, suffix):
    path = tmp_path / f"a.{suffix}"
    halves().convert(mode).save(path)
    pixels = read_image(path)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 20, 40)
    assert pixels[:, 10, 5].argmax() == 0
    assert pixels[:, 10, 35].argmax() == 2


def test_grey_and_sixteen_bit_pictures_keep_their_brightness(tmp_path):
    halves().convert("L").save(tmp_path / "l.png")
    assert (read_image(tmp_path / "l.png")[0] == read_image(tmp_path / "l.png")[2]).all()
    Image.fromarray(np.full((4, 4), 32896, np.uint16)).save(tmp_path / "i.png")
    assert (read_image(tmp_path / "i.png") == 128).all()


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_pictures_of_floats_keep_their_brightness(tmp_path, white):
    """Pillow makes those of shares, 0..1, black."""
    Image.fromarray(np.array([[0.0, 0.4, 1.0]], np.float32) * np.float32(white)).save(tmp_path / "f.tiff")
    assert read_image(tmp_path / "f.tiff")[:, 0].tolist() == [[0, 102, 255]] * 3


@pytest.mark.parametrize("worst", [-1.0, 1e6, np.nan, np.inf])
def test_floats_of_no_known_range_are_refused(tmp_path, worst):
    Image.fromarray(np.array([[0.0, 0.4, worst]], np.float32)).save(tmp_path / "f.tiff")
    for read in (read_image, check_image):
        with pytest.raises(
            ValueError, match=r"f\.tiff cannot be read: its floats go from .* to .*; they are read where"
        ):
            read(tmp_path / "f.tiff")
    with pytest.raises(ValueError, match="floats go from"):
        image_to_tensor(Image.open(tmp_path / "f.tiff"))


def test_a_sideways_photo_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the top of the scene is on the right of what is stored
    halves().save(tmp_path / "a.jpg", exif=exif)
    pixels = read_image(tmp_path / "a.jpg")
    assert pixels.shape == (3, 40, 20)
    assert pixels[:, 5, 10].argmax() == 0 and pixels[:, 35, 10].argmax() == 2


def test_transparency_shows_white_and_animations_give_their_first_frame(tmp_path):
    clear = halves().convert("RGBA")
    clear.putalpha(0)
    clear.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").min() == 255
    halves().save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (40, 20), "white")])
    assert read_image(tmp_path / "a.gif")[:, 10, 5].argmax() == 0


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp"])
def test_a_check_finds_what_reading_would(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    check_image(path)
    path.write_bytes(path.read_bytes()[:-300])
    for read in (read_image, check_image):
        with pytest.raises(ValueError, match=f"cannot read .*a.{suffix} as an image"):
            read(path)
    with pytest.raises(FileNotFoundError, match="gone"):
        check_image(tmp_path / "gone.png")


def test_bad_files_are_errors_that_name_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        read_image(tmp_path / "gone.png")
    (tmp_path / "junk.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"junk\.png"):
        read_image(tmp_path / "junk.png")
    halves(200, 200).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:120])
    with pytest.raises(ValueError, match=r"cut\.png"):
        read_image(tmp_path / "cut.png")
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match=r"bomb\.png is too large"):
        read_image(tmp_path / "bomb.png")


def test_a_square_picture_of_the_right_size_is_only_normalised():
    pixels = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    assert torch.allclose(ImageFrontend(SPEC)(pixels), pixels.float() / 127.5 - 1, atol=1e-6)


def test_crop_takes_the_centre_and_letterbox_keeps_all(tmp_path):
    halves(60, 20).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    pixels[:, :, :15] = 255
    pixels[:, :, 45:] = 255
    crop = ImageFrontend(SPEC)(pixels)
    assert crop.shape == (3, 32, 32)
    assert crop[1].max() < 0
    whole = ImageFrontend(ImageSpec(size=32, mean=SPEC.mean, std=SPEC.std, fit="letterbox"))(pixels)
    assert whole.shape == (3, 32, 32)
    assert (whole[:, 0] == 0).all()
    assert (whole[:, -1] == 0).all()
    assert whole[1, 16, 1] > 0.9
    assert ImageSpec(size=32, mean=SPEC.mean, std=SPEC.std).cropped_share(20, 80) == 0.75
    assert ImageSpec(size=32, mean=SPEC.mean, std=SPEC.std, fit="letterbox").cropped_share(20, 80) == 0


def test_a_batch_equals_its_pictures():
    batch = torch.randint(0, 256, (4, 3, 50, 48), dtype=torch.uint8)
    frontend = ImageFrontend(SPEC)
    assert torch.allclose(frontend(batch)[2], frontend(batch[2]), atol=1e-5)


def test_wrong_specs_and_tensors_are_refused():
    with pytest.raises(ValueError, match="available: crop, letterbox"):
        ImageSpec(size=32, mean=SPEC.mean, std=SPEC.std, fit="stretch")
    with pytest.raises(ValueError, match="available: black, white"):
        ImageSpec(size=32, mean=SPEC.mean, std=SPEC.std, matte="pink")
    with pytest.raises(ValueError, match="uint8"):
        ImageFrontend(SPEC)(torch.zeros(3, 8, 8))


@pytest.mark.parametrize("family", ["clip", "siglip", "vit", "bit"])
@pytest.mark.parametrize("shape", [(40, 61), (61, 40), (32, 32), (200, 90)])
def test_an_image_is_prepared_as_by_transformers(family, shape):
    """Its own processors with Pillow: equal up to rounding in float32."""
    module = pytest.importorskip(f"transformers.models.{family}.image_processing_pil_{family}")
    processor_class = getattr(
        module, {"clip": "CLIP", "bit": "Bit", "vit": "ViT"}.get(family, "Siglip") + "ImageProcessorPil"
    )
    cropped = family in ("clip", "bit")
    sizes = {"size": {"shortest_edge": 37}, "crop_size": 32} if cropped else {"size": {"height": 32, "width": 32}}
    processor = processor_class(**sizes)
    spec = ImageSpec(
        size=32, mean=tuple(processor.image_mean), std=tuple(processor.image_std), resize=37 if cropped else None,
        fit="crop" if cropped else "squash", interpolation="pil_bilinear" if family == "vit" else "pil_bicubic",
    )  # fmt: skip
    pixels = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mine = ImageFrontend(spec)(pixels)
    for image, row in zip(pixels, mine, strict=True):
        expected = processor(Image.fromarray(image.permute(1, 2, 0).numpy()), return_tensors="pt").pixel_values[0]
        assert (row - expected).abs().max() < 1e-6


def test_metadata_of_before_says_nothing_of_what_is_new():
    assert ImageSpec(size=32, mean=SPEC.mean, std=SPEC.std).metadata().keys() == {"size", "mean", "std", "fit", "matte"}
    squashed = ImageSpec(size=32, mean=SPEC.mean, std=SPEC.std, fit="squash", interpolation="pil_bicubic")
    assert ImageSpec(**squashed.metadata()) == squashed
    assert squashed.cropped_share(20, 80) == 0
    assert ImageSpec(size=20, mean=SPEC.mean, std=SPEC.std, resize=40).cropped_share(10, 10) == 0.75


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interpolation": "cubic"}, "unknown interpolation 'cubic'; available: bilinear, pil_"),
        ({"resize": 30}, "resize=30 is the shorter side before a crop of 32"),
        ({"resize": 40, "fit": "squash"}, "and fit=crop"),
    ],
)
def test_a_resize_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ImageSpec(**({"size": 32, "mean": SPEC.mean, "std": SPEC.std} | options))
