"""What a file or an array becomes: upright RGB of a bounded size, or a message that says what is wrong."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image
from threads import together

from clipviz.data import decode
from clipviz.data.images import BrokenImage, open_images
from tests.data.pictures import RED, WHITE, encoded, near, noise, plain


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees to view
    plain((8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    images = open_images(tmp_path)
    assert images[0].size == (4, 8)
    assert images[0].getexif().get(0x0112) is None


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode):
    image = Image.new("RGB", (5, 5), (200, 200, 200)).convert(mode)
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    opened = open_images(encoded(image, kind))[0]
    assert opened.mode == "RGB"
    assert near(opened.getpixel((2, 2)), WHITE if mode == "1" else (200, 200, 200), 60 if mode == "1" else 4)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    for name in ("ramp.png", "ramp.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        levels = np.asarray(open_images(tmp_path / name)[0])[0, :, 0]
        assert (np.abs(levels.astype(int) - np.arange(256)) <= 1).all(), name


def test_sixteen_bit_grey_that_is_dark_stays_dark():
    dark = Image.fromarray(np.full((4, 4), 200, np.uint16))
    assert open_images(encoded(dark))[0].getpixel((0, 0)) == (1, 1, 1)


def test_transparency_is_put_on_white():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    palette = Image.new("P", (4, 4))
    palette.putpalette([255, 0, 0] * 256)
    assert open_images(encoded(clear))[0].getpixel((0, 0)) == WHITE
    assert near(open_images(encoded(half))[0].getpixel((0, 0)), (255, 127, 127))
    assert open_images(encoded(palette, transparency=0))[0].getpixel((0, 0)) == WHITE
    assert open_images(np.asarray(half))[0].getpixel((0, 0))[1] in (126, 127, 128)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations_give_their_first_frame(kind):
    frames = [plain(colour=RED), plain(colour=(0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)
    assert near(open_images(content)[0].getpixel((0, 0)), RED)


def test_one_pixel_and_very_wide_images():
    images = open_images([encoded(plain((1, 1))), encoded(plain((20_000, 30)))])
    assert [image.size for image in images] == [(1, 1), (20_000, 30)]
    assert images.thumbnail(0, 32).size == images.thumbnail(1, 32).size == (32, 32)


def test_huge_jpeg_is_decoded_smaller():
    image = open_images(encoded(Image.new("L", (20_000, 5_000), 99), "JPEG"))[0]
    assert image.size == (10_000, 2_500)
    assert near(image.getpixel((9, 9)), (99, 99, 99))


def test_huge_png_is_refused_before_decoding_it():
    start = encoded(Image.new("1", (8, 8)))
    header = b"IHDR" + struct.pack(">II", 20_000, 20_000) + start[24:29]
    content = start[:12] + header + struct.pack(">I", zlib.crc32(header)) + start[33:]
    with pytest.raises(
        ValueError, match="20000 x 20000 is 400 megapixels, over the limit of 80; save a smaller copy"
    ):
        open_images(content)


def test_pillows_own_limit_is_left_as_it_was():
    before = Image.MAX_IMAGE_PIXELS
    open_images(encoded(plain()))
    assert before == Image.MAX_IMAGE_PIXELS


def test_thin_strip_is_refused():
    with pytest.raises(ValueError, match=r"20000 x 1 is too thin \(over 1000:1\); crop it"):
        open_images(encoded(plain((20_000, 1))))


@pytest.mark.parametrize(
    "array",
    [
        np.full((4, 6, 3), 255, np.uint8),
        np.full((4, 6), 255, np.uint8),
        np.full((4, 6, 1), 255, np.uint8),
        np.full((4, 6, 4), 255, np.uint8),
        np.full((3, 4, 6), 255, np.uint8),
        np.full((4, 6, 3), 255, np.int64),
        np.ones((4, 6, 3), np.float32),
        np.ones((4, 6, 3), np.float16),
        np.ones((4, 6), bool),
        np.full((4, 6), 65535, np.uint16),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_array_layouts_and_kinds(array):
    image = open_images(array)[0]
    assert image.size == (6, 4)
    assert image.getpixel((5, 3)) == WHITE


def test_four_axes_are_a_batch():
    assert len(open_images(np.zeros((5, 4, 6, 3), np.uint8))) == 5


def test_tensors_are_channels_first():
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(3, 4, 3, requires_grad=True)
    assert open_images(tensor)[0].size == (3, 4)
    assert open_images([torch.ones(3, 4, 6, dtype=torch.bfloat16)])[0].getpixel((0, 0)) == WHITE
    assert len(open_images(torch.rand(2, 3, 4, 6))) == 2


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(7), r"shape \[rows, cols\].*got \[7\]"),
        (np.zeros((4, 6, 2)), r"got \[4, 6, 2\]"),
        (np.zeros((0, 6, 3)), r"got \[0, 6, 3\]"),
        (np.full((4, 6, 3), np.nan), "expected finite numbers, got NaN"),
        (np.full((4, 6, 3), 2.5), r"expected floats in 0\.\.1, got 2\.5\.\.2\.5; divide by 255 or undo"),
        (np.full((4, 6, 3), 300), r"whole numbers in 0\.\.255, got 300\.\.300"),
        (np.full((4, 6, 3), 1j), "expected uint8 or float numbers, got complex128"),
    ],
)
def test_bad_arrays_say_what_is_wrong(array, message):
    with pytest.raises(ValueError, match=message):
        open_images([array])


def test_size_limits_by_hand():
    decode.check_size(1, 1)
    decode.check_size(20_000, 4_000)
    with pytest.raises(BrokenImage, match="megapixels"):
        decode.check_size(20_000, 4_001)


MEASURED = """
import resource, sys
from pathlib import Path
from clipviz.data.decode import read_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = read_image(Path(sys.argv[1]))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024 / (image.width * image.height))
"""


@pytest.mark.parametrize(
    ("kind", "mode", "most"), [("PNG", "RGBA", 11), ("WEBP", "RGBA", 21), ("PNG", "I;16", 11)]
)
def test_reading_takes_as_much_memory_as_is_said(tmp_path, kind, mode, most):
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.new(mode, (3_000, 3_000)).save(tmp_path / "large", kind, **options)
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "large")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < most


def test_large_pictures_are_decoded_one_at_a_time(monkeypatch):
    monkeypatch.setattr(decode, "LARGE", 10)
    content, inside, most = encoded(plain()), [], []
    real = decode._as_rgb

    def watched(image):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.01)
        made = real(image)
        inside.pop()
        return made

    monkeypatch.setattr(decode, "_as_rgb", watched)
    together(*[lambda: decode.read_image(content)] * 6)
    assert most == [1] * 6


def test_a_progressive_jpeg_above_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 1_100)
    assert open_images(encoded(plain((64, 64)), "JPEG"))[0].size == (32, 32)
    with pytest.raises(ValueError, match="over the limit"):
        open_images(encoded(plain((64, 64)), "JPEG", progressive=True))


def test_a_flipped_bit_in_a_png_is_damage():
    content = bytearray(encoded(noise()))
    content[len(content) // 2] ^= 4
    with pytest.raises(ValueError, match="the checksum of its 'IDAT' chunk does not match"):
        open_images(bytes(content))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_whose_rest_is_zeros_is_damage(progressive):
    content = encoded(noise(), "JPEG", progressive=progressive)
    half = content[: len(content) // 2] + bytes(len(content) - len(content) // 2)
    with pytest.raises(ValueError, match="it is damaged: "):
        open_images(half)
    with_trailer = content + b"camera notes" * 9
    assert open_images(with_trailer)[0].size == (96, 96)


def test_a_jpeg_with_a_thumbnail_in_its_notes_needs_its_own_end():
    exif = Image.Exif()
    exif[0x010E] = "x\xff\xd9"
    content = encoded(noise(), "JPEG", exif=exif.tobytes() + encoded(plain(), "JPEG"))
    assert open_images(content)[0].size == (96, 96)
    with pytest.raises(ValueError, match="it is damaged: "):
        open_images(content[: len(content) // 2] + bytes(len(content) // 2))
