"""Test the page Datasets without a browser: choices in, tables out."""

import json
import re
import shutil
import time
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import timm
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest

import cam
from cam._cli.commands import main
from cam._data.dataset import DataOrigin, Item
from cam._runs.storage.run_edits import write_note
from cam._runs.storage.store import locked
from cam.pages.ui.datasets import run_jobs
from cam.pages.ui.datasets.images.placement_view import format_ranges, parse_ranges
from cam.pages.ui.server import allowed_roots
from tests.support.dashboard_page import (
    check,
    find,
    finish,
    list_labels,
    list_values,
    open_page,
    read_address,
    read_maps,
    read_viewers,
)

COMMAND = [
    *("evaluate", "photo-grid", "--data-option", "size=12", "--shard-size", "4"),
    *("--method", "gradcam", "--method", "saliency", "--baseline", "centre"),
    *("--metric", "grid_pointing_game", "--metric", "sparseness", "--out"),
]
QUICK = {
    "size": "12",
    "run_methods": ["gradcam", "saliency"],
    "run_metrics": ["grid_pointing_game", "sparseness"],
    "start": "true",
}


def page(name: str = "datasets", **query: str | list[str]) -> AppTest:
    """Open the page Datasets, or another one."""
    return open_page(name, **query)


def text(app: AppTest) -> str:
    return "\n".join(str(element.value) for element in [*app.markdown, *app.info, *app.warning])


def rows(app: AppTest) -> str:
    """The list of unfinished runs, and the table of all."""
    listed = [
        element.proto.body for element in app.get("html") if 'class="cam-run"' in element.proto.body
    ]
    return "\n".join([*listed, *components(app, "cam-runs")])


def components(app: AppTest, kind: str) -> list[str]:
    """What can be clicked of a kind, as HTML."""
    payloads = [json.loads(component.proto.json) for component in app.get("bidi_component")]
    return [payload["html"] for payload in payloads if kind in payload.get("html", "")]


def picks(html: str) -> list[str]:
    """What the buttons of a component report, in order."""
    return [unescape(text) for text in re.findall(r'data-pick="([^"]*)"', html)]


def click(app: AppTest, label: str) -> AppTest:
    # A run cannot be started before the methods were tried.
    app = finish(app)
    button = find(app.button, label)
    return check(button.click().run())


def scores(path: Path) -> bytes:
    scores = cam.Run.open(path).scores()
    return scores["value"].to_numpy().tobytes() + scores["status"].astype(str).to_csv().encode()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """What the command line writes."""
    out = tmp_path_factory.mktemp("made") / "made"
    result = CliRunner().invoke(main, [*COMMAND, str(out)])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CAM_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("CAM_DATA_ROOTS", raising=False)
    run_jobs.get_runner.clear()
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def copied(folder, made) -> Path:
    shutil.copytree(made, folder / "made")
    return folder / "made"


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    """Twelve pictures in memory, each of which counts as one."""
    items = [(item.image, item.target, item.mask) for item in cam.dataset("photo-grid", size=12)]
    metrics = [cam.metric("top_k_intersection", k=k) for k in (1000, 100)]
    model = cam.load_model("efficientnet_lite0")
    out = tmp_path_factory.mktemp("measured") / "sampled"
    methods = ["gradcam", "saliency"]
    cam.evaluate(model, items, methods, [*metrics, "sparseness"], out, baselines="centre")
    return out


@pytest.fixture
def sampled(folder, measured) -> Path:
    shutil.copytree(measured, folder / "sampled")
    return folder / "sampled"


def ended(path: Path) -> None:
    assert run_jobs.get_runner().started[path].done.wait(100)


def test_without_runs_it_opens_on_the_example(folder):
    app = page()
    assert find(app.selectbox, "Run").value == allowed_roots.EXAMPLE
    [advice] = [line for line in list_values(app.success) if line.startswith("Use ")]
    assert advice.replace("\\", "").startswith(
        "Use Integrated gradients: it has the best median rank"
    )
    table = app.dataframe[0].value.set_index("method")
    truth = cam.example_run().leaderboard().set_index(["metric", "method"])
    mean = truth.loc[("truth_correlation", "gradcam"), "mean"]
    assert table.loc["Grad-CAM", "mean"] == pytest.approx(mean)
    # Three images stand beside it, and none of the choices of a new run.
    [three] = components(app, "cam-few")
    assert len(picks(three)) == 3
    assert "Metrics" not in list_labels(app.multiselect)
    assert not list(folder.iterdir())


def test_the_form_leads_with_a_metric_that_separates(folder):
    app = finish(click(page(), "Start a run"))
    metrics = find(app.multiselect, "Metrics")
    assert metrics.value == ["grid_pointing_game", "deletion", "insertion"]
    name = find(app.text_input, "Name of the run")
    assert (name.value, name.placeholder) == ("", "run-1")


def test_the_leaderboard_has_the_means_of_the_scores(copied):
    app = page(metric="sparseness")
    every = cam.Run.open(copied).scores()
    mean = every[every["metric"] == "sparseness"].groupby("method", observed=True)["value"].mean()
    table = app.dataframe[0].value.set_index("method")
    assert table.loc["Grad-CAM", "mean"] == pytest.approx(mean["gradcam"], rel=1e-6)
    assert table.loc["Centre (baseline)", "mean"] == pytest.approx(mean["centre"], rel=1e-6)
    assert (table[["undefined", "failed", "skipped"]] == 0).all().all()
    assert (table["values"] == 12).all() and sorted(table["rank"]) == [1, 2, 3]
    # The mosaics are recombinations of four photos: means, and nothing that needs a sample.
    assert (table["interval"] == "too few (1 group)").all() and table["low"].isna().all()
    assert "Ranks are not tested: too few (1 group), and 8 are needed." in text(app)
    assert "Take care: the mosaics are recombinations of the same four photos" in text(app)


def test_a_run_over_a_sample_has_intervals_tests_and_stability(sampled):
    app = page(run="sampled", metric="top_k_intersection(k=100)")
    table = app.dataframe[0].value.set_index("method")
    truth = cam.Run.open(sampled).leaderboard().set_index(["metric", "method"])
    row = truth.loc[("top_k_intersection(k=100)", "gradcam")]
    assert table.loc["Grad-CAM", ["low", "high"]].tolist() == pytest.approx([row.low, row.high])
    assert row.low < row["mean"] < row.high and (table["groups"] == 12).all()
    words = text(app)
    assert "Friedman's test says that the methods" in words and "Take care" not in words
    assert "12 groups of at most 12 images" in words
    assert "ranks by the same metric" in words and "a vote each" in words
    [stability] = [frame.value for frame in app.dataframe if "concordance" in frame.value]
    assert stability["variant"].tolist() == ["k=1000", "k=100"]
    for remark in cam.Run.open(sampled).rank_stability().attrs["remarks"]:
        assert remark in words


def test_a_run_without_any_value_says_why(folder):
    small = timm.create_model("test_resnet", num_classes=3)
    # Its three classes hold none of the numbers that the grid asks for.
    cam.evaluate(
        cam.Model(small),
        [(cam.sample("coffee"), 285), (cam.sample("rocket"), 285)],
        ["gradcam"],
        ["sparseness"],
        folder / "empty",
    )
    app = page()
    assert "No image has a value of any metric" in text(app)
    [table] = app.dataframe
    assert table.value["reason"][0].startswith("target 285 is out of range")
    assert table.value["method"].tolist() == ["Grad-CAM"]


def test_a_class_alone(copied):
    app = page(only_class="espresso", metric="grid_pointing_game")
    run = cam.Run.open(copied)
    items, every = run.items(), run.scores()
    part = every[every["item"].isin(items[items["label"] == "espresso"]["item"])]
    part = part[(part["metric"] == "grid_pointing_game") & (part["method"] == "saliency")]
    table = app.dataframe[0].value.set_index("method")
    assert table.loc["Saliency map", "values"] == 3
    assert table.loc["Saliency map", "mean"] == pytest.approx(part["value"].mean(), rel=1e-6)


def test_images_sorted_and_one_of_them(copied):
    query = {"view": "Gallery", "sort": "grid_pointing_game", "method": "saliency"}
    app = page(**query)
    values = cam.Run.open(copied).values("grid_pointing_game")["saliency"].sort_values()
    [gallery] = components(app, "cam-gallery")
    assert picks(gallery) == [str(item) for item in values.index]
    name = f"grid-{values.index[0]:05d}"
    assert f'alt="Saliency map of {name}"' in gallery
    app = page(item=picks(gallery)[0], **query)
    assert app.subheader[-1].value == name
    [viewer] = read_viewers(app)
    assert [heatmap["name"] for heatmap in viewer["maps"]] == ["saliency", "gradcam", "centre"]
    table = app.dataframe[0].value
    row = table[(table["method"] == "Saliency map") & (table["metric"] == "Grid pointing game")]
    assert row["value"].iloc[0] == pytest.approx(values.iloc[0])
    assert not any(header.value == name for header in click(app, "Back to all images").subheader)
    assert "no image 99" in list_values(page(item="99", **query).error)[0]
    for number in ("x", "²", "-1", "9" * 5000):
        [error] = list_values(page(item=number, **query).error)
        assert "which is no number" in error or "no image" in error


def test_where_the_model_looks(copied):
    app = finish(page(view="Attribution patterns"))
    assert "cluster" in text(app) and "eigenvalues 0" in text(app)
    app = finish(app.selectbox(key="label").set_value("espresso").run())
    assert "3 maps of gradcam are too few for clusters" in text(app)


def test_a_run_against_another(copied, folder):
    assert "no other run" in text(page(view="Compare runs"))
    shutil.copytree(copied, folder / "twin")
    app = page(view="Compare runs", run="made")
    table = app.dataframe[0].value
    assert (table["verdict"] == "too few (1 group)").all() and (table["difference"] == 0).all()
    assert "6 of too few groups to tell (below 8)" in text(app)
    assert "12 images are in both" in text(app)
    assert "nothing of what determines them" in text(app)


def test_the_code_of_a_run_and_the_report(copied, tmp_path, monkeypatch):
    app = page(view="Export")
    python, report, again = list_values(app.code)
    monkeypatch.chdir(tmp_path)
    exec(python, {})
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert report.startswith("python -m cam report ")
    assert again.split()[3:5] == ["evaluate", "photo-grid"]


def test_states_are_told(copied, folder):
    shutil.copytree(copied, folder / "broken")
    (folder / "broken" / "run.json").write_text("{")
    shutil.copytree(copied, folder / "half")
    shutil.rmtree(next((folder / "half" / "shards").iterdir()))
    app = page(run="made")
    assert "damaged" in rows(app) and "paused, can be resumed" in rows(app)
    assert any("is damaged or of no run" in error.value for error in app.error)
    app = page(run="nobody")
    assert "asks for the run `nobody`, which is not here" in text(app)
    # Jobs draw the page again within the second; it is said as long as the address asks for it.
    assert "asks for the run `nobody`, which is not here" in text(check(app.run()))
    app = page(run="made", view="Gallery", page="7", start="true", size="none")
    assert "asks for `7` as 'Page'" not in text(app)  # there is one page only
    assert "asks for `none` as 'Images', which is no whole number from 1 to 5,000" in text(app)


# Starting, cancelling, going on


def test_a_run_started_here_is_the_one_of_the_command_line(folder, made):
    app = page(**QUICK)
    app = click(app, "Start the run")
    ended(folder / "run-1")
    assert scores(folder / "run-1") == scores(made)
    ours, theirs = (
        json.loads((path / "run.json").read_text()) for path in (folder / "run-1", made)
    )
    assert ours["config"] == theirs["config"]
    app = page()
    assert "Photo grid, 12 images" in rows(app) and "run-1" in picks(rows(app))


def test_cancelled_here_and_finished_by_the_command_line(folder, made, monkeypatch):
    path = folder / "run-1"
    slow_down(monkeypatch)
    app = click(page(**QUICK), "Start the run")
    while not (progress := run_jobs.get_runner().progress.get(path)) or not progress.done:
        time.sleep(0.02)
    # By its key: it is there as long as the run is live, which finish() would wait for.
    check(app.button(key="cancel run-1").click().run())
    ended(path)
    assert run_jobs.get_runner().started[path].cancelled
    assert 0 < cam.Run.open(path).done < 12
    assert "paused, can be resumed" in rows(page())
    assert CliRunner().invoke(main, [*COMMAND, str(path)]).exit_code == 0
    assert scores(path) == scores(made)


def test_one_that_waits_is_cancelled_at_once(folder, monkeypatch):
    slow_down(monkeypatch)
    click(page(**QUICK), "Start the run")
    app = click(page(**QUICK), "Start the run")
    assert "waiting for another run" in rows(app)
    check(app.button(key="cancel run-2").click().run())
    app = check(app.run())
    assert "It was cancelled before its first image." in list_values(app.error)
    assert not run_jobs.is_mine(folder / "run-2") and run_jobs.is_mine(folder / "run-1")
    check(app.button(key="dismiss run-2").click().run())
    assert not list_values(check(app.run()).error)
    ended(folder / "run-1")
    assert not (folder / "run-2").exists()


def slow_down(monkeypatch) -> None:
    """Leave time to cancel between two shards."""
    from cam._runs.engines import local_engine

    measure = local_engine.measure_shard

    def slowly(*arguments):
        time.sleep(0.5)
        return measure(*arguments)

    monkeypatch.setattr(local_engine, "measure_shard", slowly)


def test_stopped_in_python_and_resumed_here(folder, made):
    path = folder / "half"
    run = cam.Run.open(made)
    with pytest.raises(cam.Cancelled):
        cam.evaluate(
            run.call.load_model(),
            run.call.open_data(),
            out=path,
            progress=lambda progress: progress.done < 4,
            **run.call.arguments(),
        )
    click(page(), "Resume")
    ended(path)
    assert scores(path) == scores(made)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../outside", "is no name for a run"),
        ("a/b", "is no name for a run"),
        (".hidden", "is no name for a run"),
        ("made", "there is a run 'made' already"),
        ("way", "is a link that leads out of the folder of runs"),
    ],
    ids=["up", "slash", "hidden", "taken", "link"],
)
def test_names_that_do_not_do(copied, folder, tmp_path, name, says):
    (folder / "way").symlink_to(tmp_path)
    app = page(**QUICK)
    app = check(find(finish(app).text_input, "Name of the run").set_value(name).run())
    app = click(app, "Start the run")
    assert any(says.lower() in error.value.lower() for error in app.error)
    assert not run_jobs.get_runner().started


def test_a_folder_that_cannot_be_written_is_told_in_one_sentence(folder, monkeypatch):
    monkeypatch.setenv("CAM_RUNS", "/proc/cam-runs")
    click(page(**QUICK), "Start the run")
    ended(Path("/proc/cam-runs/run-1"))
    app = page()
    assert any("Cannot write into '/proc/cam-runs/run-1'" in error.value for error in app.error)
    app = click(app, "Dismiss")
    assert find(page().selectbox, "Run").value == allowed_roots.EXAMPLE


# Data of the operator's


@pytest.fixture
def pictures(folder, tmp_path, monkeypatch) -> Path:
    root = tmp_path / "pictures"
    for name, label in (("chelsea", "Egyptian cat"), ("coffee", "espresso")):
        (root / "pets" / label).mkdir(parents=True)
        cam.sample(name).save(root / "pets" / label / f"{name}.png")
    cam.sample("rocket").save(tmp_path / "secret.png")
    (root / "pets" / "espresso" / "link.png").symlink_to(tmp_path / "secret.png")
    monkeypatch.setenv("CAM_DATA_ROOTS", str(root))
    return root


def test_a_folder_that_is_allowed(pictures, folder):
    query = {
        **QUICK,
        "data": "Folder or list",
        "source": str(pictures / "pets"),
        "run_metrics": "sparseness",
    }
    app = page(**query)
    metrics = find(app.multiselect, "Metrics")
    assert "Grid pointing game" not in metrics.options and "Deletion" in metrics.options
    click(app, "Start the run")
    ended(folder / "run-1")
    run = cam.Run.open(folder / "run-1")
    assert (run.done, run.total) == (3, 3)
    [problem] = run.problems().itertuples()
    assert problem.status == "skipped" and "outside of the folders" in problem.reason
    app = page(run="run-1")
    assert app.dataframe[0].value["skipped"].tolist() == [1, 1, 1]
    items = run.items().set_index("id")["item"]
    app = page("explore", image=f"run:run-1:{items['Egyptian cat/chelsea.png']}")
    assert read_maps(app)[0] == "Grad-CAM heatmap for Egyptian cat"
    app = page("explore", image=f"run:run-1:{items['espresso/link.png']}")
    assert any("outside of the folders" in error.value for error in app.error)


@pytest.mark.parametrize("source", ["/etc", "{root}/../secret.png", "{root}/out", "pets"])
def test_folders_that_are_not_allowed(pictures, tmp_path, source):
    (pictures / "out").symlink_to(tmp_path)
    named = source.replace("{root}", str(pictures))
    app = page(**QUICK | {"data": "Folder or list", "source": named})
    assert any(
        "outside of the folders that are allowed here" in message
        for message in list_values(app.error)
    )
    assert "Start the run" not in list_labels(app.button)


def test_no_folder_is_allowed_unless_the_operator_says_so(folder):
    app = page(**QUICK)
    assert not app.selectbox or "source" not in [box.key for box in app.selectbox]
    with pytest.raises(cam.DataError, match="allows no folders of data"):
        allowed_roots.open_data(DataOrigin("/etc"))


# A run's picture in Explore


def test_a_picture_of_a_run_is_explained_in_explore(copied):
    from cam.pages.ui.subject import run_pictures

    run = cam.Run.open(copied)
    link = run_pictures.make_link(run, "made", 5, run.image(5).facts)
    label = run.image(5).facts["label"]
    assert link == {"image": ["run:made:5"], "target": [label]}
    app = page("explore", **link)
    assert read_maps(app)[0] == f"Grad-CAM heatmap for {label}"
    truth = cam.dataset("photo-grid", size=12)[5].image
    picture = run_pictures._read_picture(run, 5)
    assert np.array_equal(np.asarray(picture.photo.image), np.asarray(truth))
    names: dict = {}
    exec(f"import cam\nfound = {picture.code}", names)
    assert np.array_equal(np.asarray(names["found"]), np.asarray(truth))
    # It goes along to another page.
    app.switch_page("pages/anatomy.py")
    app.run()
    assert not app.exception and "Image 5 of the run **made**" in text(app)
    assert read_address(app) == link
    app = click(app, "Choose another image")
    assert "Image 5" not in text(app) and not app.error and read_address(app) == {}


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("run:nobody:1", "There is no run in"),
        ("run:../made:1", "is no name for a run"),
        ("run:made:12", "The run has no image 12"),
        ("run:made:-1", "is no number"),
        ("run:made:²", "is no number"),
        ("run:made", "is no number"),
        ("run:", "is no number"),
    ],
    ids=["no run", "a path", "beyond", "negative", "raised", "no number", "nothing"],
)
def test_a_link_to_a_picture_that_is_not_there(copied, image, says):
    app = page("explore", image=image)
    assert any(says in error.value for error in app.error)


# Many images


def test_sorted_by_what_may_be_wrong(sampled):
    app = page(run="sampled", view="Gallery", sort="border", method="gradcam")
    table = cam.Run.open(sampled).image_measures("gradcam").set_index("item")["border"]
    [gallery] = components(app, "cam-gallery")
    order = [int(item) for item in picks(gallery)]
    assert table[order].is_monotonic_decreasing and sorted(order) == list(range(12))
    assert len(gallery) < 12 * 10_000 and gallery.count('loading="lazy"') == 12
    app = page(run="sampled", view="Gallery", sort="border", method="gradcam", order="Best first")
    [turned] = components(app, "cam-gallery")
    assert table[[int(item) for item in picks(turned)]].is_monotonic_increasing


def test_a_name_puts_no_marks_on_the_page(folder):
    """Ids and classes are strangers' texts: in the gallery, the matrix and the table."""
    evil = '<img src=x onerror="alert(1)">'
    module = timm.create_model("test_resnet", num_classes=2)
    items = [Item(f"{evil}{index}", cam.sample("coffee"), index % 2) for index in range(3)]
    model = cam.Model(module, labels=[evil, "plain"])
    run = cam.evaluate(model, items, ["saliency"], ["sparseness"], folder / "evil")
    write_note(run.path, evil)
    for view in ("Leaderboard", "Gallery", "Confusion matrix", "Embedding"):
        app = page(view=view, selected="0-2")
        for html in components(app, "cam-"):
            assert evil not in html and "onerror=" not in unescape(html).replace(evil, "")


def test_the_cells_of_the_matrix_open_their_images(sampled):
    app = page(run="sampled", view="Confusion matrix")
    run = cam.Run.open(sampled)
    table = run.confusions()
    [matrix] = components(app, "cam-confusions")
    cells = [pick.split(" → ") for pick in picks(matrix)]
    assert sum(table.loc[label, predicted] for label, predicted in cells) == 12
    label, predicted = cells[0]
    app = page(run="sampled", view="Gallery", cell=f"{label} → {predicted}")
    [gallery] = components(app, "cam-gallery")
    assert sorted(map(int, picks(gallery))) == run.confused(label, predicted)
    app = click(app, "All images")
    [gallery] = components(app, "cam-gallery")
    assert len(picks(gallery)) == 12


def test_a_selection_has_its_own_leaderboard(sampled):
    app = page(run="sampled", view="Embedding", selected="2-4,9", metric="sparseness")
    assert "4 selected images" in [header.value for header in app.subheader]
    [grid] = components(app, "cam-gallery")
    assert sorted(map(int, picks(grid))) == [2, 3, 4, 9]
    mean = cam.Run.open(sampled).values("sparseness").loc[[2, 3, 4, 9], "gradcam"].mean()
    [chart] = [
        element.proto.body for element in app.get("html") if "95 % intervals" in element.proto.body
    ]
    assert f"Grad-CAM {mean:.3g}, no interval" in chart
    assert "Too few groups for intervals (4; 8 are needed)" in text(app)
    app = click(app, "Clear the selection")
    assert "selected" not in read_address(app)
    app = page(run="sampled", view="Embedding", selected="2-")
    assert "asks for the selection `2-`" in text(app)


def test_only_classes_of_several_images_have_a_mean_map(folder):
    items = [(cam.sample(name), label) for name, label in (("coffee", 967), ("rocket", 657))]
    model = cam.load_model("efficientnet_lite0")
    cam.evaluate(model, items, ["saliency"], ["sparseness"], folder / "single")
    app = finish(page(view="Attribution patterns"))
    assert "No class has several images" in text(app)


# Names, notes, and what goes for good


def test_a_run_is_noted_renamed_and_deleted(copied, folder):
    shutil.copytree(copied, folder / "other")
    app = page(run="made")
    app = check(find(app.text_area, "Note").set_value("the first one").run())
    app = click(app, "Save the note")
    assert "the first one" in rows(app)
    app = check(find(app.text_input, "New name").set_value("other").run())
    app = click(app, "Rename")
    assert any("there is a run 'other' already" in error.value.lower() for error in app.error)
    app = check(find(app.text_input, "New name").set_value("better").run())
    app = click(app, "Rename")
    assert not (folder / "made").exists() and find(app.selectbox, "Run").value == "better"
    assert "the first one" in rows(app) and read_address(app)["run"] == ["better"]
    # A link that was sent before still opens it, and says what it is called now.
    linked = page(run="made", view="Gallery")
    assert find(linked.selectbox, "Run").value == "better" and not linked.error
    assert "**made**, which was renamed to **better**" in text(linked)
    assert find(app.button, "Delete").disabled
    [sure] = [box for box in app.checkbox if box.label.startswith("Delete this run")]
    app = click(check(sure.check().run()), "Delete")
    assert [path.name for path in folder.iterdir()] == ["other"]
    assert find(app.selectbox, "Run").value == "other"


def test_the_example_and_a_run_that_is_written_stay(copied, folder):
    app = page(run=allowed_roots.EXAMPLE)
    assert "cannot be changed" in text(app) and "Delete" not in list_labels(app.button)
    with locked(copied):
        app = page(run="made")
        [sure] = [box for box in app.checkbox if box.label.startswith("Delete this run")]
        app = click(check(sure.check().run()), "Delete")
        assert any("is being written by" in error.value for error in app.error)
    assert copied.exists()


@pytest.mark.parametrize(
    ("items", "text"), [([0, 1, 2, 7], "0-2,7"), ([5], "5"), ([], ""), ([1, 3], "1,3")]
)
def test_selections_are_short_in_the_address(items, text):
    assert format_ranges(items) == text
    assert not text or parse_ranges(text) == items


@pytest.mark.parametrize("wrong", ["", "a", "3-1", "1,,2", "-1", "0-99999999", "²"])
def test_what_is_no_selection(wrong):
    assert parse_ranges(wrong) is None


def test_an_image_of_the_example_is_explained_in_explore(folder):
    app = page(run=allowed_roots.EXAMPLE, view="Gallery", item="0")
    [viewer] = read_viewers(app)
    assert len(viewer["maps"]) == 7 and viewer["size"] == [128, 128]
    assert "cannot be opened" not in text(app)
    app = page("explore", image=f"run:{allowed_roots.EXAMPLE}:0", model="known/patch")
    assert not app.error
    assert read_maps(app)[0] == f"Grad-CAM heatmap for {cam.example_run().image(0).facts['label']}"
