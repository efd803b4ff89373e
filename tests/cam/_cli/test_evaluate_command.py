"""``python -m cam evaluate`` and what reads its runs: output, exit statuses."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import cam
from cam import _formatting
from cam._cli import evaluate_command
from cam._cli.commands import main
from tests.support.stand_in import Broken, Drop, Inside, Scores, network

DONE, FAILED, WRONG_USAGE = 0, 1, 2
STAND_INS = {"inside": Inside, "drop": Drop, "broken": Broken}
SMALL = ("photo-grid", "--data-option", "size=8", "--metric", "inside", "--metric", "drop")


def stand_in(name: str, **parameters: int) -> object:
    if name not in STAND_INS:
        raise cam.MetricError(f"there is no metric {name!r}")
    return STAND_INS[name](**parameters)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Call the command line in an empty folder, with the tiny network and stand-in metrics."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cam, "load_model", lambda *_, **__: network())
    monkeypatch.setattr(cam, "metric", stand_in)

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return call


def errors(result: Result) -> list[str]:
    assert "Traceback" not in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return [line for line in result.stderr.splitlines() if line.startswith("Error: ")]


def test_a_run_and_its_leaderboard(run):
    result = run("evaluate", *SMALL, "--out", "first", "--limit", 6)
    assert (result.exit_code, errors(result)) == (DONE, [])
    board = cam.Run.open("first").leaderboard()
    lines = result.stdout.splitlines()
    assert lines[0] == "inside (higher is better)"
    assert lines[3] == "drop (lower is better)"
    best = board[board["metric"] == "inside"].sort_values("rank").iloc[0]
    assert lines[1].split()[:3] == ["1", best["method"], f"{best['mean']:.4f}"]
    # The mosaics are four photos, and there is no interval over them.
    assert "too few (1 group)" in lines[1] and lines[1].endswith("(n = 6)")
    assert "the same four photos" in result.stderr
    assert lines[6].startswith("cost")
    # The grid's six mosaics are one shard, whose pass both methods share.
    assert [line.split()[1:6] for line in lines[7:]] == [
        ["6", "images,", "1", "forwards", "and"]
    ] * 2
    again = run("leaderboard", "first")
    assert again.stdout == result.stdout
    # The same command once more changes nothing and says the same.
    assert run("evaluate", *SMALL, "--out", "first", "--limit", 6).stdout == result.stdout


def test_a_dry_run_tells_the_cost_and_writes_nothing(run):
    result = run("evaluate", *SMALL, "--out", "dry", "--dry-run", "--json")
    costs = json.loads(result.stdout)
    assert costs["images"] == 8
    text = run("evaluate", *SMALL, "--out", "dry", "--dry-run").stdout
    assert f"forwards: {costs['forwards']:,.1f} inputs an image" in text
    assert not Path("dry").exists()


def test_the_leaderboard_for_a_program(run):
    result = run("evaluate", *SMALL, "--out", "first", "--json")
    printed = json.loads(result.stdout)
    assert (printed["done"], printed["total"]) == (8, 8)
    truth = cam.Run.open("first").leaderboard()
    assert [row["mean"] for row in printed["leaderboard"]] == truth["mean"].tolist()
    costs = cam.Run.open("first").costs()
    assert [row["seconds"] for row in printed["costs"]] == costs["seconds"].tolist()
    assert printed["costs"][0]["metric"] is None
    apart = json.loads(run("leaderboard", "first", "--by", "correct", "--json").stdout)
    assert {row["correct"] for row in apart["leaderboard"]} <= {"correct", "wrong"}
    assert run("leaderboard", "first", "--by", "correct").stdout.startswith("wrong · inside")


def test_methods_and_metrics_with_parameters(run):
    options = ("--method", "smoothgrad(samples=2)", "--metric", "drop(steps=9)")
    assert run("evaluate", "photo-grid", "--limit", 2, *options, "--out", "r").exit_code == DONE
    config = cam.Run.open("r").config
    assert config["methods"][0]["parameters"]["samples"] == 2
    assert config["metrics"][0]["parameters"] == {"steps": 9}


@pytest.mark.parametrize(
    ("arguments", "phrase", "status"),
    [
        (("photo-grid", "--out", "r", "--method", "gradcan"), "did you mean", WRONG_USAGE),
        (("photo-grid", "--out", "r", "--method", "gradcam("), "write it as", WRONG_USAGE),
        (("photo-grid", "--out", "r", "--metric", "nothing"), "no metric", WRONG_USAGE),
        (("photo-grid", "--out", "r", "--data-option", "7"), "key=value", WRONG_USAGE),
        (("photo-grid", "--out", "r", "--engine", "moon"), "Invalid value", WRONG_USAGE),
        (("photo-grid",), "Missing option '--out'", WRONG_USAGE),
        (("nowhere", "--out", "r"), "there is no data set 'nowhere'", FAILED),
        (("photo-grid", "--out", "r", "--data-option", "side=3"), "no option 'side'", FAILED),
    ],
)
def test_wrong_usage_writes_nothing(run, arguments, phrase, status):
    result = run("evaluate", "--metric", "drop", *arguments)
    (sentence,) = errors(result)
    assert phrase in sentence
    assert result.exit_code == status
    assert not Path("r").exists()


def test_another_configuration_is_refused(run):
    run("evaluate", *SMALL, "--out", "r")
    result = run("evaluate", *SMALL, "--out", "r", "--method", "gradcam")
    assert result.exit_code == FAILED
    (sentence,) = errors(result)
    assert "methods: gradcam, saliency → gradcam" in sentence


def test_ctrl_c_is_a_sentence_and_the_run_goes_on(run, monkeypatch):
    real = evaluate_command._Bar.__call__

    def interrupted(self, progress):
        real(self, progress)
        if progress.done == 4:
            raise KeyboardInterrupt

    command = ("evaluate", *SMALL, "--shard-size", 4, "--out", "r")
    with monkeypatch.context() as patch:
        patch.setattr(evaluate_command._Bar, "__call__", interrupted)
        result = run(*command)
    assert result.exit_code == FAILED
    assert errors(result) == [
        "Error: stopped after 4 of 8 images; run the same command again to go on"
    ]
    partial = run("leaderboard", "r")
    assert "4 of 8 images are done" in partial.stderr
    assert run(*command).exit_code == DONE
    assert cam.Run.open("r").done == 8


def test_a_broken_picture_is_named_and_nothing_at_all_is_a_failure(run):
    for number in range(3):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (99, 99, 3), np.uint8)).save(
            f"{number}.png"
        )
    Path("1.png").write_bytes(b"no pixels")
    result = run("evaluate", ".", "--metric", "drop", "--out", "r")
    assert result.exit_code == DONE
    assert "Note: 1.png: skipped: 1.png is not an image" in result.stderr
    assert "1 skipped" in result.stdout
    for number in (0, 2):
        Path(f"{number}.png").unlink()
    result = run("evaluate", ".", "--metric", "drop", "--out", "other")
    assert result.exit_code == FAILED
    assert "nothing could be measured" in errors(result)[0]


def test_export(run):
    run("evaluate", *SMALL, "--out", "r")
    assert run("export", "r", "--out", "scores.csv").stdout == "scores.csv\n"
    assert len(Path("scores.csv").read_text().splitlines()) == 1 + 8 * 2 * 2
    assert run("export", "r", "--out", "scores.txt").exit_code == FAILED


def test_durations():
    durations = [_formatting.duration(seconds) for seconds in (3.4, 99, 100, 720, 12_000)]
    assert durations == ["3 s", "99 s", "2 min", "12 min", "3 h 20 min"]


def test_metrics_says_what_each_is():
    metrics = json.loads(CliRunner().invoke(main, ["metrics", "--json"]).stdout)
    assert list(metrics) == list(cam.metrics())
    assert metrics["deletion"]["direction"] == -1
    assert metrics["grid_pointing_game"]["needs_masks"] is True
    plain = CliRunner().invoke(main, ["metrics"]).stdout
    for name, info in cam.metrics().items():
        assert f"{name}: {info.title} (" in plain
        assert info.citation in plain


# diff


def listed(count: int) -> tuple[str, ...]:
    """Arguments for a list of pictures, each of which counts as one."""
    rows = ["path,label,mask,patient"]
    for number, item in enumerate(cam.dataset("photo-grid", size=count)):
        item.image.save(f"{item.id}.png")
        Image.fromarray(item.mask).save(f"{item.id}-mask.png")
        rows.append(f"{item.id}.png,{item.target},{item.id}-mask.png,{number % 3}")
    Path("list.csv").write_text("\n".join(rows))
    return ("list.csv", "--metric", "inside", "--metric", "drop")


def two_runs(run, monkeypatch) -> None:
    data = listed(8)
    run("evaluate", *data, "--out", "before")
    monkeypatch.setattr(cam, "load_model", lambda *_, **__: network(1))
    run("evaluate", *data, "--out", "after")


def test_diff_says_what_changed(run, monkeypatch):
    two_runs(run, monkeypatch)
    changes = json.loads(run("diff", "before", "after", "--json").stdout)
    assert [change.split(":")[0] for change in changes["configuration"]] == ["model.weights"]
    assert changes["images"]["common"] == 8
    before, after = (cam.Run.open(name).scores() for name in ("before", "after"))
    for row in changes["changes"]:
        which = f"method == '{row['method']}' and metric == '{row['metric']}'"
        was, now = before.query(which)["value"], after.query(which)["value"]
        assert row["before"] == pytest.approx(was.mean())
        assert row["difference"] == pytest.approx((now.to_numpy() - was.to_numpy()).mean())
        change = (now.to_numpy() - was.to_numpy()) * (1 if row["metric"] == "inside" else -1)
        assert (row["improved"], row["worsened"]) == ((change > 0).sum(), (change < 0).sum())
        assert row["low"] < row["difference"] < row["high"]
    text = run("diff", "before", "after").stdout
    assert "Changed: model.weights: " in text
    assert "8 images in both, 0 only before, 0 only after" in text


def test_noise_fails_nothing(run, monkeypatch):
    """Eight images of two random networks: some mean is lower, and none by more than chance."""
    two_runs(run, monkeypatch)
    changes = json.loads(run("diff", "before", "after", "--json").stdout)["changes"]
    assert {row["verdict"] for row in changes} == {"noise"}
    sign = {"inside": 1, "drop": -1}
    lower = {row["metric"] for row in changes if row["difference"] * sign[row["metric"]] < 0}
    assert lower
    for metric in lower:
        assert run("diff", "before", "after", "--fail-if-worse", f"{metric}:0").exit_code == DONE


def test_diff_fails_where_it_is_worse_by_more_than_noise(run, monkeypatch):
    """The later version's maps miss by a fifth, give or take as much again."""
    command = ("evaluate", *listed(14))
    run(*command, "--out", "before")
    real, random = Inside.measure, np.random.default_rng(0)

    def worse(self, *arguments, **options):
        scores = real(self, *arguments, **options)
        share = torch.from_numpy(random.normal(0.8, 0.2, len(scores.values)))
        return Scores(scores.values * share, scores.reasons)

    monkeypatch.setattr(Inside, "measure", worse)
    run(*command, "--out", "after")
    table = json.loads(run("diff", "before", "after", "--json").stdout)["changes"]
    verdicts = {(row["method"], row["metric"]): row["verdict"] for row in table}
    assert verdicts["saliency", "inside"] == "worse"
    assert verdicts["saliency", "drop"] == "noise"
    loss = {row["method"]: -row["difference"] for row in table if row["metric"] == "inside"}
    limit = 0.9 * loss["saliency"]
    result = run("diff", "before", "after", "--fail-if-worse", f"inside:{limit}")
    assert result.exit_code == FAILED
    assert "saliency is worse by inside" in errors(result)[0]
    for allowed in ("inside:0.5", "drop:0"):
        fine = run("diff", "before", "after", "--fail-if-worse", allowed)
        assert (fine.exit_code, errors(fine)) == (DONE, [])
    before, after, metric = "before", "after", "inside"
    # The other way round it is better.
    assert run("diff", after, before, "--fail-if-worse", "inside:0").exit_code == DONE
    # Nothing is worse than itself.
    assert run("diff", "before", "before", "--fail-if-worse", f"{metric}:0").exit_code == DONE
    for text, phrase in (("drop", "no limit"), ("drop:-1", "no limit"), ("fall:1", "no metric")):
        wrong = run("diff", "before", "after", "--fail-if-worse", text)
        assert wrong.exit_code == WRONG_USAGE
        assert phrase in errors(wrong)[0]


def test_runs_with_nothing_in_common(run):
    run("evaluate", *SMALL, "--out", "before")
    Image.new("RGB", (99, 99)).save("a.png")
    run("evaluate", "a.png".replace("a.png", "."), "--metric", "drop", "--out", "after")
    result = run("diff", "before", "after")
    assert result.exit_code == FAILED
    assert "have no image in common" in errors(result)[0]
    assert "there is no run" in errors(run("diff", "before", "nowhere"))[0]


def test_a_gate_over_too_few_groups_is_no_gate(run, monkeypatch):
    """Fourteen images of three patients cannot show that anything is worse, so it says so."""
    command = ("evaluate", *listed(14), "--data-option", "groups=patient")
    run(*command, "--out", "before")
    monkeypatch.setattr(cam, "load_model", lambda *_, **__: network(1))
    run(*command, "--out", "after")
    changes = json.loads(run("diff", "before", "after", "--json").stdout)["changes"]
    assert {row["verdict"] for row in changes} == {"too few (3 groups)"}
    assert {row["low"] for row in changes} == {None}
    assert "too few (3 groups)" in run("diff", "before", "after").stdout
    result = run("diff", "before", "after", "--fail-if-worse", "inside:0.5")
    assert result.exit_code == FAILED
    (sentence,) = errors(result)
    assert "8 independent groups are needed: inside of gradcam: too few (3 groups)" in sentence
    board = json.loads(run("leaderboard", "before", "--json").stdout)
    assert {row["interval"] for row in board["leaderboard"]} == {"too few (3 groups)"}
    assert {row["groups"] for row in board["leaderboard"]} == {3}


def test_ranks_under_other_baselines_are_one_table(run):
    variants = ("--metric", "drop(steps=3)", "--metric", "drop(steps=9)", "--metric", "inside")
    result = run("evaluate", *listed(9)[:1], *variants, "--out", "r")
    assert "ranks by the variants of drop (Kendall's W = 1.00)" in result.stdout
    board = cam.Run.open("r").leaderboard()
    ranks = board[board["metric"] == "drop(steps=9)"].set_index("method")["rank"]
    assert f"steps=9: gradcam {ranks['gradcam']:g}, saliency {ranks['saliency']:g}" in result.stdout
    printed = json.loads(run("leaderboard", "r", "--json").stdout)["rank_stability"]
    assert [row["variant"] for row in printed] == ["steps=3", "steps=9"]
    run("report", "r", "--out", "report.html")
    assert "Do the ranks hold under other baselines?" in page("report.html").text


# report


class Page(HTMLParser):
    """What a page holds and what it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.images: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for key, value in attributes if key in ("src", "href")]
        self.images += [value for key, value in attributes if key == "src"]

    def handle_data(self, data):
        self.text += data


def page(path: str) -> Page:
    parser = Page()
    parser.feed(Path(path).read_text())
    return parser


def test_a_report_is_one_page_that_fetches_nothing(run):
    run("evaluate", *listed(8), "--out", "r")
    result = run("report", "r", "--out", "report.html")
    assert (result.exit_code, errors(result)) == (DONE, [])
    report = page("report.html")
    assert not {"link", "iframe"} & set(report.tags)
    # The viewer's data and its module.
    assert report.tags.count("script") == 2
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in report.sources)
    # 3 best and 3 worst of 2 methods by 2 metrics, and of one of them on the first screen.
    assert len(report.images) == 3 * 2 * (2 * 2 + 1)
    for source in report.images:
        encoded = base64.b64decode(source.partition(",")[2])
        assert Image.open(io.BytesIO(encoded)).size == (144, 144)
    for phrase in ("Leaderboard", "Agreement between metrics", "Best and worst images", "Cost",
                 "What is missing", "Configuration", "sign-flip", cam.__version__):  # fmt: skip
        assert phrase in report.text
    for row in cam.Run.open("r").leaderboard().itertuples():
        assert f"{row.mean:.4g}" in report.text
    # Intervals and ranks for each metric, and intervals on the first screen.
    assert report.tags.count("svg") == 4 + 2
    for title in ("Grad-CAM", "Saliency map"):
        assert title in report.text
    for key in ("gradcam", "saliency"):
        assert key not in report.text.partition("Configuration")[0].partition("</style>")[2]
    assert "Take care" not in report.text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", Path("report.html").read_text())


def test_a_report_over_four_photos_has_no_intervals(run):
    run("evaluate", *SMALL, "--out", "r")
    run("report", "r", "--out", "report.html")
    report = page("report.html")
    assert "Take care: the mosaics are recombinations of the same four photos" in report.text
    assert "No intervals and no tests: 8 images of 1 group are too few" in report.text
    assert report.text.count("Ranks are not tested: too few (1 group)") == 2
    assert "too few (1 group)" in report.text
    # The means are drawn still, and no ranks.
    assert report.tags.count("svg") == 2 + 2


def test_a_report_shows_the_best_image_under_its_own_heatmap(run):
    run("evaluate", *SMALL, "--method", "gradcam", "--out", "r")
    run("report", "r", "--out", "report.html")
    stored = cam.Run.open("r")
    values = stored.values("inside")["gradcam"]
    image = stored.image(int(values.idxmax()))
    overlay = cam.overlay(image.picture.resize((144, 144), Image.Resampling.BICUBIC),
                        image.heatmaps["gradcam"], "inferno", 0.85, fade=True)  # fmt: skip
    first = page("report.html").images[0]
    picture = Image.open(io.BytesIO(base64.b64decode(first.partition(",")[2])))
    assert np.abs(np.asarray(picture).astype(float) - np.asarray(overlay)).mean() < 6


def test_what_users_named_is_text_in_a_report(run):
    folder = Path("<script>alert(1)</script>".replace("/", "∕"))
    folder.mkdir()
    Image.new("RGB", (64, 64), "red").save(folder / "a&b.png")
    (folder / "<b>.png").write_bytes(b"no pixels")
    run("evaluate", ".", "--targets", "predicted", "--metric", "drop", "--out", "r")
    assert run("report", "r", "--out", "report.html").exit_code == DONE
    report = page("report.html")
    assert "b" not in report.tags and report.tags.count("script") == 2
    assert "alert(1)</script>" not in Path("report.html").read_text()
    assert "<b>.png" in report.text
    assert "a&b.png" in report.text


def test_a_report_of_a_part_and_of_nothing(run, monkeypatch):
    def stop(self, progress):
        return progress.done < 4

    with monkeypatch.context() as patch:
        patch.setattr(evaluate_command._Bar, "__call__", stop)
        run("evaluate", *SMALL, "--shard-size", 4, "--heatmaps", 0, "--out", "r")
    assert run("report", "r", "--out", "report.html").exit_code == DONE
    report = page("report.html")
    assert "4 of 8 images" in report.text
    assert "This run kept no heatmaps" in report.text
    assert "nowhere" in errors(run("report", "r", "--out", "nowhere/report.html"))[0]
    with monkeypatch.context() as patch:
        patch.setattr(evaluate_command._Bar, "__call__", lambda self, progress: False)
        run("evaluate", *SMALL, "--out", "empty")
    assert "has no image done yet" in errors(run("report", "empty", "--out", "a.html"))[0]
