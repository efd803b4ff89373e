"""Targets that are written as text."""

import pytest
import torch

from cam import TargetError
from cam._targets.questions import list_questions
from cam._targets.spelling import read_target, write_target
from cam.targets import Box, Missed, Region, Segment


@pytest.mark.parametrize(
    ("text", "kind", "label", "sides"),
    [
        ("segment:3", Segment, 3, None),
        ("segment:polar bear", Segment, "polar bear", None),
        ("segment:3@10,20.5", Segment, 3, (10, 20.5)),
        ("segment:cat@1,2,3,4", Segment, "cat", (1, 2, 3, 4)),
        ("box:1,2,3,4", Box, None, (1, 2, 3, 4)),
        ("box:7@1,2,3,4", Box, 7, (1, 2, 3, 4)),
        ("missed:cat@1,2,3,4", Missed, "cat", (1, 2, 3, 4)),
        ("region:1,2,3,4", Region, None, (1, 2, 3, 4)),
        ("region:cat@1,2", Segment, "cat", (1, 2)),
        ("region:a@b@1,2,3,4", Region, "a@b", (1, 2, 3, 4)),
    ],
)
def test_reads_and_writes(text, kind, label, sides):
    target = read_target(text)
    assert type(target) is kind
    assert (target.target if kind is Segment else target.label) == label
    assert (target.at if kind is Segment else target.box) == sides
    assert write_target(target) == text


@pytest.mark.parametrize("text", ["cat", "3", "all", "raise", "zebra: a horse", "Box:1"])
def test_a_label_stays_a_label(text):
    assert read_target(text) is None


@pytest.mark.parametrize(
    "text",
    ["segment:", "segment:@1,2", "segment:3@1,b", "box:", "missed:1,2,3,4", "region:3@"],
)
def test_refuses_in_one_sentence(text):
    with pytest.raises(TargetError, match=f"the target '{text}' cannot be read; write "):
        read_target(text)
    with pytest.raises(TargetError, match=r"a segment's place is x, y"):
        read_target("segment:3@1,2,3")
    with pytest.raises(TargetError, match="a box is x0, y0, x1, y1 with"):
        read_target("box:3")
    with pytest.raises(TargetError, match="cannot be written as text"):
        write_target(Segment(1, torch.ones(2, 2, dtype=torch.bool)))


def test_texts_among_targets():
    single, owners = list_questions("segment:1", 2)
    assert isinstance(single, Segment) and owners is None
    several, owners = list_questions([["box:1,2,3,4", "all"], ["cat"]], 2)
    assert isinstance(several[0], Box) and several[1:] == ["all", "cat"] and owners == [0, 0, 1]
