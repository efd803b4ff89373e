"""Remarks in runs, against methods and metrics without a run."""

import json

import pandas
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import cam
from cam._cli.commands import main
from tests.support.stand_in import Metric, Scores

BLACK, BRIGHT = {1, 6}, {0, 3, 6, 8}


class Brightness(Metric):
    """The mean of the picture; it remarks on what is bright in the first channel."""

    def __init__(self) -> None:
        super().__init__("brightness")

    def measure(self, model, batch, attribution, targets, masks=None, **_) -> Scores:
        level = batch[:, 0, 0, 0]
        remarks = tuple(
            f"its corner is {float(value):.2f}, so beware" if value > 1 else None for value in level
        )
        return Scores(batch.mean((1, 2, 3)), (None,) * len(batch), remarks)


class Silent(Metric):
    """A metric without remarks."""

    def measure(self, model, batch, attribution, targets, masks=None, **_) -> Scores:
        return Scores(batch.mean((1, 2, 3)), (None,) * len(batch))


def network() -> cam.Model:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten())
    module.append(nn.Linear(4 * 100, 3))
    return cam.Model(module.eval(), name="tiny")


def pictures() -> list[tuple[torch.Tensor, int]]:
    batch = torch.rand(10, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    for index in BRIGHT:
        batch[index, 0, 0, 0] = 2 + index
    for index in BLACK:
        batch[index, :, 1:] = batch[index, :, :, 1:] = 0
        batch[index] *= index in BRIGHT
    return [(picture, 1) for picture in batch]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> cam.Run:
    return cam.evaluate(
        network(),
        pictures(),
        ["input_x_gradient", cam.method("smoothgrad", samples=4)],
        [Brightness(), Silent("silent")],
        tmp_path_factory.mktemp("runs") / "run",
        shard_size=4,
    )


def test_each_remark_is_that_of_the_metric_and_of_the_method(run):
    model, truth = network(), []
    for number, (picture, target) in enumerate(pictures()):
        batch = picture[None]
        methods = ["input_x_gradient", cam.method("smoothgrad", samples=4)]
        every = cam.attribute(model, batch, methods, [target]).values()
        for key, maps in zip(run.methods, every, strict=True):
            truth += [(number, key, None, note) for _, note in maps.notes()]
            scores = Brightness().measure(model, batch, maps, [target])
            if scores.remarks[0]:
                truth.append((number, key, "brightness", scores.remarks[0]))
    stored = run.query("SELECT * FROM remarks")
    rows = [
        (row.item, row.method, None if pandas.isna(row.metric) else row.metric, row.remark)
        for row in stored.itertuples()
    ]
    assert rows == truth


def test_they_are_counted_by_what_they_say(run):
    table = run.remarks()
    bright = table[(table["metric"] == "brightness") & (table["method"] == "input_x_gradient")]
    (row,) = bright.to_dict("records")
    assert row["images"] == len(BRIGHT) and row["wordings"] == len(BRIGHT)
    assert row["remark"] == "its corner is 2.00, so beware"
    assert row["example"] == run.items()["id"][0]
    zero = table[table["remark"].str.startswith("the map is zero everywhere")]
    assert zero["metric"].isna().all()
    counts = dict(zip(zero["method"], zero["images"], strict=True))
    assert counts["input_x_gradient"] == len(BLACK - BRIGHT)
    assert "silent" not in set(table["metric"])
    (chance,) = table[table["remark"].str.contains("samples")]["images"]
    assert chance > 5  # four samples of noise


def test_the_command_line_and_the_report_show_them(run):
    result = CliRunner().invoke(main, ["leaderboard", str(run.path)])
    note = "Note: brightness of input_x_gradient, 4 of 10 images, first "
    (line,) = [line for line in result.stderr.splitlines() if line.startswith(note)]
    assert line.endswith(": its corner is 2.00, so beware; the figures are those of the first")
    first = run.items()["id"][1]
    note = f"Note: input_x_gradient, 1 of 10 images, first {first}: the map is zero everywhere"
    assert note in result.stderr
    printed = json.loads(CliRunner().invoke(main, ["leaderboard", str(run.path), "--json"]).stdout)
    assert [row["images"] for row in printed["notes"]] == run.remarks()["images"].tolist()
    page = run.path.parent / "report.html"
    CliRunner().invoke(main, ["report", str(run.path), "--out", str(page)])
    text = page.read_text()
    assert "<summary>Remarks</summary>" in text and "its corner is 2.00, so beware" in text


def test_a_run_of_which_nothing_is_remarked_says_nothing(tmp_path):
    data = [(torch.rand(3, 12, 12), 1) for _ in range(3)]
    run = cam.evaluate(network(), data, ["saliency"], [Silent("silent")], tmp_path / "run")
    assert run.remarks().empty
    result = CliRunner().invoke(main, ["leaderboard", str(run.path)])
    assert "images, first" not in result.stderr
    page = tmp_path / "report.html"
    CliRunner().invoke(main, ["report", str(run.path), "--out", str(page)])
    assert "<summary>Remarks</summary>" not in page.read_text()
