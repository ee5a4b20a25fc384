"""Pictures of any kind that a user has: orientation, colour, transparency, depth, formats, damage."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from muomni.frontends import image_file
from muomni.frontends.image_file import check_image, image_to_tensor, read_image

# Four colours, the top row red and lime, the bottom row blue and white; where EXIF orientation n has to have stored them.
UPRIGHT = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
STORED = {
    1: UPRIGHT, 2: UPRIGHT[:, ::-1], 3: UPRIGHT[::-1, ::-1], 4: UPRIGHT[::-1], 5: UPRIGHT.swapaxes(0, 1),
    6: np.rot90(UPRIGHT), 7: UPRIGHT[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(UPRIGHT, -1),
}  # fmt: skip


def save(path, pixels, **options):
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)
    return path


def seen(path, **options):
    return read_image(path, **options).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_stands_upright(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", STORED[orientation], exif=exif, **options)
    np.testing.assert_array_equal(seen(path), UPRIGHT)


@pytest.mark.parametrize("value", [0, 9, 65535, "6", (1, 6), TiffImagePlugin.IFDRational(6, 1)])
def test_an_odd_orientation_is_none(tmp_path, monkeypatch, value):
    path = save(tmp_path / "a.png", UPRIGHT)
    monkeypatch.setattr(Image.Image, "getexif", lambda self: {0x0112: value})
    np.testing.assert_array_equal(seen(path), UPRIGHT)


def test_tags_that_cannot_be_read_or_written_do_not_matter(tmp_path):
    def broken(exif: Image.Exif) -> bytes:
        """XResolution as a text: Pillow reads it, and cannot write it again."""
        ifd = TiffImagePlugin.ImageFileDirectory_v2()
        ifd[0x0112], ifd[0x011A] = 6, "72 dpi"
        ifd.tagtype[0x011A] = 2
        out = io.BytesIO()
        out.write(b"Exif\0\0" + b"II*\0\x08\0\0\0" + ifd.tobytes(8))
        return out.getvalue()

    path = save(
        tmp_path / "text.jpg", np.repeat(np.repeat(STORED[6], 32, 0), 32, 1), exif=broken(Image.Exif()), quality=95
    )
    assert (np.abs(seen(path)[16, 16].astype(int) - [255, 0, 0]) < 40).all()
    check_image(path)
    for name, exif in {"cut": b"Exif\0\0II*\0", "noise": b"Exif\0\0" + bytes(range(200)), "none": b"Exif\0\0"}.items():
        path = save(tmp_path / f"{name}.jpg", np.zeros((8, 8, 3), np.uint8), exif=exif)
        assert seen(path).shape == (8, 8, 3)
        check_image(path)


def test_the_callers_image_stays_as_it_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    mine = Image.open(save(tmp_path / "a.jpg", np.zeros((16, 24, 3), np.uint8), exif=exif))
    assert image_to_tensor(mine).shape == (3, 24, 16)
    assert (mine.size, mine.getexif().get(0x0112), mine.mode) == ((24, 16), 6, "RGB")
    clear = Image.new("LA", (4, 4), (200, 0))
    image_to_tensor(clear)
    assert clear.getpixel((0, 0)) == (200, 0)


@pytest.mark.parametrize(
    ("mode", "colour"),
    [("RGBA", (10, 20, 30, 0)), ("LA", (10, 0)), ("La", (0, 0)), ("RGBa", (0, 0, 0, 0)), ("PA", (3, 0))],
)
def test_what_is_transparent_shows_the_matte(mode, colour):
    clear = Image.new(mode, (4, 4), colour)
    assert (image_to_tensor(clear).numpy() == 255).all()
    assert (image_to_tensor(clear, matte="black").numpy() == 0).all()


def test_palettes_and_single_colours_that_are_transparent(tmp_path):
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "p.png", transparency=1)
    palette.save(tmp_path / "p.gif", transparency=1)
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "rgb.png", transparency=(9, 9, 9))
    Image.new("L", (4, 4), 9).save(tmp_path / "l.png", transparency=9)
    for name in ("p.png", "p.gif", "rgb.png", "l.png"):
        assert (seen(tmp_path / name) == 255).all(), name
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert abs(int(image_to_tensor(half)[0, 0, 0]) - 127) <= 1


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, 255), ("L", 77, 77), ("P", 0, 0), ("CMYK", (0, 0, 0, 255), 0), ("YCbCr", (77, 128, 128), 77),
        ("HSV", (0, 0, 77), 77), ("RGBX", (77, 77, 77, 0), 77), ("I;16", 77 * 257, 77), ("I", 77 * 257, 77), ("F", 77.0, 77),
    ],
)  # fmt: skip
def test_every_mode(mode, colour, expected):
    assert (image_to_tensor(Image.new(mode, (4, 4), colour)).numpy() == expected).all()


def test_whole_numbers_beyond_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.full((2, 2), 70_000, np.int32)).save(tmp_path / "i.tiff")
    for read in (read_image, check_image):
        with pytest.raises(ValueError, match=r"i\.tiff holds whole numbers from 7e\+04"):
            read(tmp_path / "i.tiff")


def test_colour_profiles_are_applied_and_damaged_ones_are_not(tmp_path):
    plain = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(seen(save(tmp_path / "s.png", plain, icc_profile=srgb)), plain)
    np.testing.assert_array_equal(seen(save(tmp_path / "d.png", plain, icc_profile=b"no profile at all")), plain)
    swapped = srgb.replace(b"rXYZ", b"....").replace(b"gXYZ", b"rXYZ").replace(b"....", b"gXYZ")
    swapped = swapped.replace(
        "sRGB".encode("utf-16-be"), "GRBs".encode("utf-16-be")
    )  # a space of red and green exchanged
    other = seen(save(tmp_path / "x.png", plain, icc_profile=swapped))
    assert np.abs(other[0, 0].astype(int) - [100, 200, 50]).max() < 3
    clear = np.dstack([plain, np.full((4, 4), 255, np.uint8)])
    np.testing.assert_array_equal(seen(save(tmp_path / "a.png", clear, icc_profile=swapped)), other)


def message(read, path) -> str:
    try:
        read(path)
    except ValueError as error:
        return str(error)
    return ""


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("format", ["DDS", "ICO", "SGI", "TGA", "PCX", "IM", "PDF", "ICNS"])
def test_other_formats_are_refused_whatever_their_name(tmp_path, format):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png", format=format)
    for read in (read_image, check_image):
        with pytest.raises(
            ValueError, match=r"a\.png as an image: it is no JPEG, PNG, WebP, GIF, BMP, TIFF or PPM file"
        ):
            read(tmp_path / "a.png")


def test_an_eps_starts_no_program(tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: pytest.fail("a program was started"))
    (tmp_path / "a.png").write_bytes(EPS)
    with pytest.raises(ValueError, match=r"a\.png as an image: it is no JPEG"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "error", [IndexError("a\nb"), MemoryError(), OverflowError("x"), KeyError("x"), AssertionError()]
)
def test_whatever_a_decoder_raises_is_one_line(tmp_path, monkeypatch, error):
    path = save(tmp_path / "a.png", UPRIGHT)

    def fail(self):
        raise error

    monkeypatch.setattr(Image.Image, "load", fail)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(ValueError, match=r"cannot read .*a\.png as an image: .") as found:
        read_image(path)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("format", ["PNG", "GIF", "TIFF", "WEBP", "BMP", "JPEG"])
def test_damaged_bytes_are_a_picture_or_one_line(tmp_path, format):
    rng = np.random.default_rng(0)
    whole = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(whole, format=format)
    for _ in range(12):
        data = bytearray(whole.getvalue())
        for place in rng.integers(4, len(data), 3):
            data[place] = rng.integers(256)
        path = tmp_path / "a.png"
        path.write_bytes(bytes(data[: rng.integers(8, len(data) + 1)]))
        for read in (read_image, check_image):
            line = message(read, path)
            assert not line or ("a.png" in line and "\n" not in line)


def test_large_pictures_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    save(tmp_path / "a.png", np.zeros((40, 40), np.uint8))
    monkeypatch.setattr(image_file, "MAX_PIXELS", 1599)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=r"a\.png is too large: 40 x 40, at most 1599 pixels"):
        read_image(tmp_path / "a.png")
