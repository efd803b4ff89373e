"""Name what a source of data is before it is opened."""

import pytest

import cam
from cam._data.data_kinds import kind_of
from tests.support.small_data import make_all


@pytest.mark.parametrize(
    ("source", "name", "options"),
    [
        ("flat", "folder", {}),
        ("listed/list.csv", "csv", {"delimiter": (",", ";", "\t", "|")}),
        (
            "coco/annotations/instances_val.json",
            "coco",
            {"truth": ("segments", "boxes"), "items": ("classes", "objects"), "images": ()},
        ),
        # Of VOC's lists val comes before train; there is no folder of segments.
        ("voc", "voc", {"truth": ("boxes",), "split": ("val", "train")}),
        ("pet", "pet", {"split": ("test", "trainval")}),
    ],
)
def test_what_a_source_is_and_what_can_be_chosen_of_it(tmp_path, source, name, options):
    make_all(tmp_path)
    kind = kind_of(tmp_path / source)
    assert (kind.name, dict(kind.options)) == (name, options)
    # The first value is the default.
    defaults = {key: values[0] for key, values in options.items() if values}
    if name == "csv":
        (tmp_path / source).write_text("path\nchelsea.jpg\n")
    data = cam.dataset(tmp_path / source)
    assert data.fingerprint == cam.dataset(tmp_path / source, **defaults).fingerprint


def test_a_source_that_is_none_and_a_delimiter_that_is_none(tmp_path):
    with pytest.raises(cam.DataError, match="there is no data set"):
        kind_of(tmp_path / "nothing")
    (tmp_path / "list.csv").write_text("path\n")
    with pytest.raises(cam.DataError, match="a delimiter is one character, not ';;'"):
        cam.dataset(tmp_path / "list.csv", delimiter=";;")
