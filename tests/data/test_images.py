import io
import os
import struct
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from clipviz.data import decode, openers
from clipviz.data.images import BrokenImage, Images, open_images
from clipviz.demo import images as demo

RED, WHITE = (255, 0, 0), (255, 255, 255)


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def plain(size=(8, 6), colour=RED, mode="RGB"):
    return Image.new(mode, size, colour)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    plain().save(tmp_path / "b" / "two.png")
    plain().save(tmp_path / "one.jpg")
    plain().save(tmp_path / ".hidden" / "no.png")
    plain().save(tmp_path / ".no.png")
    return tmp_path


def near(colour, other, tolerance=3):
    return max(abs(a - b) for a, b in zip(colour, other, strict=True)) <= tolerance


# what a collection is


def test_folder_is_read_recursively_sorted_and_without_hidden_files(folder):
    images = open_images(folder)
    assert images.names == ["b/two.png", "one.jpg"]
    assert images.paths == [folder / "b" / "two.png", folder / "one.jpg"]
    assert images.skipped == []
    assert images[-1].mode == "RGB"
    assert near(images[1].getpixel((3, 3)), RED)
    assert open_images(images) is images
    assert open_images(str(folder)).fingerprint == images.fingerprint


def test_folder_linked_into_itself_is_read_once(folder):
    (folder / "b" / "loop").symlink_to(folder)
    assert len(open_images(folder)) == 2


def test_fingerprint_follows_the_files(folder):
    before = open_images(folder).fingerprint
    plain((9, 9)).save(folder / "b" / "two.png")
    after = open_images(folder).fingerprint
    assert before != after
    assert len(after) == 12


def test_fingerprint_of_pictures_follows_their_content():
    one, same, other = (open_images([plain(colour=c)]) for c in (RED, RED, WHITE))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_lists_may_mix_paths_pictures_arrays_and_bytes(folder):
    array = np.zeros((4, 5, 3), np.uint8)
    images = open_images([str(folder / "one.jpg"), plain(), array, encoded(plain())])
    assert images.names == ["one.jpg", "image 1", "image 2", "image 3"]
    assert [image.size for image in images] == [(8, 6), (8, 6), (5, 4), (8, 6)]
    assert images.paths is None


def test_single_file_upload_and_picture(folder):
    assert open_images(folder / "one.jpg").names == ["one.jpg"]
    assert open_images(encoded(plain(), "WEBP", lossless=True))[0].getpixel((0, 0)) == RED
    assert len(open_images(plain())) == 1


def test_the_users_picture_is_copied():
    mine = plain()
    images = open_images([mine])
    mine.putpixel((0, 0), WHITE)
    images[0].putpixel((1, 1), WHITE)
    assert images[0].getpixel((0, 0)) == images[0].getpixel((1, 1)) == RED


def test_with_image_and_subset_keep_captions_and_attributes_aligned():
    images = demo().subset([3, 1]).with_image(plain(), "mine")
    assert images.names == ["demo 00003", "demo 00001", "mine"]
    assert images.captions == [demo().captions[3], demo().captions[1], "mine"]
    assert all(len(words) == 3 and words[2] is None for words in images.attributes.values())
    assert images[2].getpixel((0, 0)) == RED
    assert images.masks(2) is None
    assert images[:2].names == images.names[:2]
    assert images.fingerprint != demo().fingerprint


def test_thumbnail_is_the_centred_square_and_is_kept(folder):
    wide = plain((30, 10))
    wide.paste((0, 0, 255), (10, 0, 20, 10))
    images = open_images([wide])
    thumbnail = images.thumbnail(0, 8)
    assert thumbnail.size == (8, 8)
    assert all(near(thumbnail.getpixel((x, 4)), (0, 0, 255), 10) for x in range(8))
    thumbnail.putpixel((4, 4), WHITE)
    assert images.thumbnail(0, 8).getpixel((4, 4)) == (0, 0, 255)


def test_sprite_places_thumbnails_row_by_row():
    colours = [(255, 0, 0), (0, 160, 0), (0, 0, 255), (240, 240, 0), (20, 20, 20)]
    sheet, columns = open_images([plain(colour=c) for c in colours]).sprite([4, 1, 2, 3, 0], 16)
    grid = Image.open(io.BytesIO(sheet))
    assert (grid.format, columns, grid.size) == ("JPEG", 3, (48, 32))
    expected = [colours[i] for i in (4, 1, 2, 3, 0)]
    for place, colour in enumerate(expected):
        assert near(grid.getpixel((place % 3 * 16 + 8, place // 3 * 16 + 8)), colour, 12)


def test_sprite_of_nothing_is_empty_and_of_too_much_is_refused():
    images = open_images([plain()])
    assert images.sprite([], 16) == (b"", 0)
    with pytest.raises(ValueError, match="at most 65500 pixels a side"):
        images.sprite([0, 0], 40_000)


def test_where_finds_images_and_names_what_there_is():
    images = demo()
    reds = images.where("colour", "red")
    assert reds
    assert {images.attributes["colour"][i] for i in reds} == {"red"}
    with pytest.raises(ValueError, match=r"got 'color'; attributes are: .*colour"):
        images.where("color", "red")
    with pytest.raises(ValueError, match=r"no image has colour = 'rde'; values are: .*red"):
        images.where("colour", "rde")
    with pytest.raises(ValueError, match="attributes are: none"):
        open_images([plain()]).where("colour", "red")


def test_index_out_of_range():
    with pytest.raises(IndexError, match=r"index in 0\.\.0, got 1"):
        open_images([plain()])[1]


# the embedded collection


def test_demo_opens_fast_with_captions_attributes_and_masks():
    demo.cache_clear()
    start = time.perf_counter()
    images = demo()
    assert time.perf_counter() - start < 1  # 0.04 s alone; other work may share the CPU
    assert len(images) == len(images.captions) == len(images.attributes["background"])
    assert all(isinstance(caption, str) and caption for caption in images.captions)
    assert images[0].size == images[0].size[::-1]
    single = images.where("count", "1")[0]
    assert images.masks(single).shape == images[single].size[::-1]
    assert images.masks(single).dtype == np.uint8
    assert images.masks(single).max() >= 1


def test_demo_may_be_read_by_many_threads():
    images, failures = demo(), []
    expected = [images[i].tobytes() for i in range(20)]

    def read():
        for i in range(20):
            if images[i].tobytes() != expected[i] or images.masks(i) is None:
                failures.append(i)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# kinds of pictures


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


# arrays and tensors


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


# data sets


class Pairs:
    classes = ("cat", "dog")

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        if isinstance(self.items[i], Exception):
            raise self.items[i]
        return self.items[i]


def test_data_set_with_labels():
    images = open_images(Pairs([(plain(), 1), (plain(), 0)]))
    assert images.attributes == {"label": ["dog", "cat"]}
    assert images.names == ["item 0", "item 1"]
    assert images.where("label", "cat") == [1]


def test_data_set_of_bare_pictures_or_dicts():
    assert open_images(Pairs([plain()])).attributes is None
    assert open_images(Pairs([{"image": plain(), "label": "owl"}])).attributes == {"label": ["owl"]}


def test_broken_item_of_a_data_set_is_skipped_and_labels_stay_aligned():
    images = open_images(Pairs([KeyError("lost"), (plain(), 1), (np.full((2, 2, 3), -2.0), 0)]))
    assert images.attributes == {"label": ["dog"]}
    assert images.skipped[0] == ("item 0", "the data set raised KeyError: 'lost'")
    assert images.skipped[1][0] == "item 2"
    assert "undo the normalisation" in images.skipped[1][1]


def test_torch_data_set():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.rand(3, 3, 8, 8), torch.arange(3))
    images = open_images(data)
    assert len(images) == 3
    assert images.attributes == {"label": ["0", "1", "2"]}


# bad input


def broken_files(folder):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    jpeg = encoded(noise, "JPEG")
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "cut.png").write_bytes(encoded(noise)[:3000])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("<script>not an image</script>")
    (folder / "notes.txt").write_text("hello")


def test_broken_files_are_skipped_counted_and_listed(folder):
    broken_files(folder)
    images = open_images(folder)
    assert images.names == ["b/two.png", "one.jpg"]
    reasons = dict(images.skipped)
    assert "truncated" in reasons["cut.jpg"]
    assert "damaged" in reasons["cut.png"]
    assert reasons["empty.png"] == "the file is empty (0 bytes)"
    assert reasons["text.jpg"] == "it is not an image that Pillow reads; convert it to JPEG, PNG or WebP"
    assert "a .txt file is not read as an image" in reasons["notes.txt"]
    assert "5 skipped" in repr(images)


def test_nothing_usable_lists_the_reasons(tmp_path):
    broken_files(tmp_path)
    (tmp_path / "also.md").write_text("")
    with pytest.raises(
        ValueError, match=r"at least one usable image, got 6 unusable in .*cut.jpg: .*and 1 more"
    ):
        open_images(tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such/folder", "got 'no/such/folder', which does not exist; check the path"),
        ("", "got an empty path"),
        ("https://example.org/cat.jpg", "got the address .*; download it first"),
        ("a\0b", "check the path"),
        ([], "at least one image, got none in list"),
        (["no-such.png"], "no-such.png: there is no such file"),
        ([3], "expected an array of shape"),
        ([None], "got 1 unusable in list"),
        (None, "expected a folder, files, .* got NoneType"),
        (7, "got int"),
        ({"a": 1}, "got dict"),
        ((x for x in "ab"), r"got generator; a generator needs list\(...\) around it"),
        (b"", "the file is empty"),
        (b"hello", "it is not an image that Pillow reads"),
        (np.array(["a.png"]), r"pass list\(array\)"),
    ],
)
def test_what_is_not_images_is_refused(source, message):
    with pytest.raises(ValueError, match=message):
        open_images(source)


def test_empty_folder(tmp_path):
    with pytest.raises(ValueError, match=r"at least one image, got none in '.*'; choose another folder"):
        open_images(tmp_path)


def test_a_folder_in_a_list_of_files_is_opened(folder):
    images = open_images([folder / "b", folder / "one.jpg", folder / "no.jpg"])
    assert images.names == ["two.png", "one.jpg"]
    assert images.skipped == [(str(folder / "no.jpg"), "there is no such file")]


def test_big_collections_are_checked_when_used(folder, monkeypatch):
    monkeypatch.setattr(openers, "EAGER", 1)
    broken_files(folder)
    images = open_images(folder)
    assert len(images) == 6
    place = images.names.index("cut.jpg")
    with pytest.raises(
        BrokenImage, match=r"readable image, got 'cut.jpg': .*truncated.*open the images again"
    ):
        images[place]
    assert ("cut.jpg", dict(images.skipped)["cut.jpg"]) in images.skipped
    sheet, _ = images.sprite(range(len(images)), 16)
    assert Image.open(io.BytesIO(sheet)).size == (48, 32)


def test_file_deleted_after_opening(folder):
    images = open_images(folder)
    (folder / "one.jpg").unlink()
    with pytest.raises(ValueError, match="there is no such file"):
        images[1]
    assert isinstance(images, Images)
    assert near(images[0].getpixel((0, 0)), RED)


def test_size_limits_by_hand():
    decode.check_size(1, 1)
    decode.check_size(20_000, 4_000)
    with pytest.raises(BrokenImage, match="megapixels"):
        decode.check_size(20_000, 4_001)


# damage and size that a decoder would not notice


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
    threads = [threading.Thread(target=decode.read_image, args=(content,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6


def test_a_progressive_jpeg_above_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 1_100)
    assert open_images(encoded(plain((64, 64)), "JPEG"))[0].size == (32, 32)
    with pytest.raises(ValueError, match="over the limit"):
        open_images(encoded(plain((64, 64)), "JPEG", progressive=True))


def noise(size=(96, 96)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8))


def test_a_flipped_bit_in_a_png_is_damage():
    content = bytearray(encoded(noise()))
    content[len(content) // 2] ^= 4
    with pytest.raises(ValueError, match="its 'IDAT' part differs from its checksum"):
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


# what is read, skipped and named is what is there


def within(seconds, work):
    """What `work` returns, in a thread that may not take longer."""
    answer = []
    thread = threading.Thread(target=lambda: answer.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"it took longer than {seconds} s"
    return answer[0]


def test_a_pipe_with_a_pictures_name_is_named_and_not_waited_for(folder):
    os.mkfifo(folder / "x.jpg")
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    images = within(20, lambda: open_images(folder))
    assert len(images) == 2
    assert images.skipped == [
        ("gone.jpg", "it is a link to a file that is not there"),
        ("x.jpg", "it is not a regular file"),
    ]
    listed = within(20, lambda: open_images([folder / "x.jpg", folder / "one.jpg"]))
    assert listed.skipped == [("x.jpg", "it is not a regular file")]


def test_a_folder_that_cannot_be_read_is_named(folder, monkeypatch):
    real = os.scandir

    def refusing(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert open_images(folder).skipped == [("b", "the folder cannot be read: permission denied")]


def test_a_folder_linked_twice_is_named(folder):
    (folder / "again").symlink_to(folder / "b")
    images = open_images(folder)
    assert images.names == ["b/two.png", "one.jpg"]
    assert images.skipped == [("again", "this folder has been read already, by another name")]


def test_a_very_deep_folder_is_read(tmp_path):
    place = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1_100):
        os.mkdir("d", dir_fd=place)
        inner = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)
    plain().save(tmp_path / "d" / "one.png")
    try:
        assert open_images(tmp_path).names == ["d/one.png"]
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # too deep for shutil


def test_names_that_are_not_utf8_are_read_shown_and_fingerprinted(folder):
    with open(os.fsencode(folder) + b"/caf\xe9.png", "wb") as stream:
        stream.write(encoded(plain()))
    with open(os.fsencode(folder) + b"/br\xfcch.png", "wb") as stream:
        stream.write(b"")
    images = open_images(folder)
    assert images.names == ["b/two.png", "caf\\xe9.png", "one.jpg"]
    assert images.skipped == [("br\\xfcch.png", "the file is empty (0 bytes)")]
    assert len(images.fingerprint) == 12
    assert images.paths[1].exists()
    assert "3" in repr(images)


def test_one_broken_thing_in_a_mixed_list_does_not_refuse_the_list(folder):
    (folder / "bad.tar").write_bytes(b"x" * 2000)
    (folder / "bad.parquet").write_bytes(b"PAR1 no")
    odd = ["~nouser/x.jpg", "", "a" * 5000, 7]
    images = open_images([folder / "bad.tar", folder / "one.jpg", folder / "bad.parquet", *odd, plain()])
    assert images.names == ["one.jpg", "image 7"]
    assert len(images.skipped) == 6


@pytest.mark.parametrize(
    "source", ["", "  ", "~nouser-here", "a" * 5_000, "a/" * 5_000, "x-{0..999999999}", "\0"]
)
def test_paths_that_cannot_be_are_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="expected"):
        open_images(source)
