"""Tables beside pictures: classes and groups by row, and what is said of rows that do not fit."""

import pytest
from PIL import Image

from clipviz.data.images import open_images
from clipviz.data.waterbirds import waterbirds


@pytest.fixture
def birds(tmp_path):
    """Four pictures in two folders of species."""
    for i, name in enumerate(("001.Gull/a.png", "001.Gull/b.png", "002.Wren/a.png", "002.Wren/c.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (50 * i, 90, 9)).save(tmp_path / name)
    return tmp_path


def written(folder, *lines, name="metadata.csv"):
    (folder / name).write_text("\n".join(lines) + "\n", "utf-8")
    return open_images(folder)


def test_waterbirds_metadata_gives_class_and_group_by_row(birds):
    found = written(
        birds,
        "img_id,img_filename,y,split,place,place_filename",
        "1,002.Wren/a.png,0,0,1,/o/ocean/1.jpg",
        "2,001.Gull/a.png,1,2,1,x",
        "3,./001.Gull/b.png,1,1,0,x",
        "4,003.Owl/z.png,0,0,0,x",
    )
    assert found.names == ["001.Gull/a.png", "001.Gull/b.png", "002.Wren/a.png", "002.Wren/c.png"]
    assert found.attributes["label"] == ["waterbird", "waterbird", "landbird", None]
    assert found.attributes["group"] == ["waterbird on water", "waterbird on land", "landbird on water", None]
    assert found.attributes["split"] == ["test", "val", "train", None]
    assert found.attributes["folder"] == ["001.Gull", "001.Gull", "002.Wren", "002.Wren"]
    assert found.skipped == [("metadata.csv, row 5", "the picture '003.Owl/z.png' does not exist")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("001.Gull/a.png,7,2,1", r"y to be 0 \(landbird\), 1 \(waterbird\) in row 3 of 'metadata.csv', got '7'"),
        ("001.Gull/a.png,1,2,-1", r"expected place to be 0 \(land\), 1 \(water\) in row 3 .*, got '-1'; correct it"),
        ("001.Gull/a.png,1,2", "expected 4 values in row 3 of 'metadata.csv', one per column, got 3; put quotes"),
        ("002.Wren/a.png,1,2,1", "one row per picture in 'metadata.csv', got rows 2 and 3 for '002.Wren/a.png'"),
    ],
)  # fmt: skip
def test_a_row_that_says_nothing_sensible_is_named(birds, row, message):
    with pytest.raises(ValueError, match=message):
        written(birds, "img_filename,y,split,place", "002.Wren/a.png,0,0,1", row)


def test_any_table_with_class_and_group_columns_will_do(birds):
    found = written(birds, "File;Class;Context", "a.png;x;", "b.png;gull;sea", "c.png;wren;", name="my.csv")
    assert found.attributes["label"] == [None, "gull", None, "wren"]  # a.png is in two folders: nobody's
    assert found.attributes["group"] == [None, "gull, sea", None, None]
    assert found.attributes["Context"] == [None, "sea", None, None]
    assert [name for name, _ in found.skipped] == ["my.csv, row 2"]


def test_parquet_tables_are_read_and_one_table_speaks_for_a_picture(birds):
    pyarrow, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    rows = {"file_name": ["001.Gull/a.png", "002.Wren/c.png"], "label": ["gull", "wren"], "group": [3, None]}
    parquet.write_table(pyarrow.table(rows), birds / "words.parquet")
    found = written(birds, "path,label", "001.Gull/a.png,crow", name="zoo.csv")
    assert found.attributes["label"] == ["gull", None, None, "wren"]
    assert found.attributes["group"] == ["3", None, None, None]
    assert found.skipped == [("zoo.csv", "words.parquet already describes its pictures")]


def test_what_is_no_table_of_pictures_is_left_out_by_name(birds):
    (birds / "notes.csv").write_text("img_id,y\n1,2\n")
    (birds / "empty.csv").write_bytes(b"")
    (birds / "odd.csv").write_bytes(b"path,y,y\n\xe9.png,1,2\n")
    found = written(birds, "path,y", "elsewhere.png,1", name="other.csv")
    reasons = dict(found.skipped)
    assert reasons["notes.csv"].startswith("expected a column of file names (img_filename, file_name, ")
    assert reasons["notes.csv"].endswith("got columns img_id, y")
    assert reasons["empty.csv"].endswith("got columns none")
    assert "expected every column once, got y" in reasons["odd.csv"]
    assert reasons["other.csv"] == "none of its rows names a picture of this folder"
    assert found.attributes["label"] == ["001.Gull", "001.Gull", "002.Wren", "002.Wren"]


def test_waterbirds_numbers_may_be_written_with_a_point(birds):
    rows = ("002.Wren/a.png,0.0,0,1.0", "001.Gull/a.png,1.0,2.0,1.", "001.Gull/b.png,1,2.00,0.0")
    found = written(birds, "img_filename,y,split,place", *rows)
    assert found.attributes["label"] == ["waterbird", "waterbird", "landbird", None]
    assert found.attributes["group"] == ["waterbird on water", "waterbird on land", "landbird on water", None]
    assert waterbirds(birds).attributes["label"] == ["waterbird", "waterbird"]
    for wrong in ("2.0", "-1.0"):
        with pytest.raises(ValueError, match=f"expected y to be 0 .* got '{wrong[:-2]}'"):
            written(birds, "img_filename,y,split,place", f"002.Wren/a.png,{wrong},0,1")
