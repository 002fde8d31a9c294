"""What a collection is: its order, names, fingerprint, thumbnails and attributes, from folders, lists and data sets."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from threads import together

from clipviz.data.images import open_images
from clipviz.demo import images as demo
from tests.data.pictures import RED, WHITE, encoded, near, plain


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
    with pytest.raises(ValueError, match="at most 65500 pixels per side"):
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


def test_demo_has_captions_attributes_and_masks():
    images = demo()
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

    together(*[read] * 6)
    assert failures == []


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
