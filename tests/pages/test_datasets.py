"""Test the page Datasets without a browser: choices in, tables out."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import timm
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest

import cam
from cam._cli.commands import main
from cam._data.dataset import DataOrigin
from cam.pages.ui.datasets import run_jobs
from cam.pages.ui.server import allowed_roots
from tests.support.dashboard_page import check, find, finish, list_labels, list_values, open_page

COMMAND = [
    *("evaluate", "photo-grid", "--data-option", "size=12", "--shard-size", "4"),
    *("--method", "gradcam", "--method", "saliency", "--baseline", "centre"),
    *("--metric", "grid_pointing_game", "--metric", "sparseness", "--out"),
]
QUICK = {
    "size": "12",
    "run_methods": ["Grad-CAM", "Saliency map"],
    "run_metrics": ["Grid pointing game", "Sparseness (Gini index)"],
    "start": "true",
}


def page(name: str = "datasets", **query: str | list[str]) -> AppTest:
    """Open the page Datasets, or another one."""
    return open_page(name, **query)


def text(app: AppTest) -> str:
    return "\n".join(str(element.value) for element in [*app.markdown, *app.info, *app.warning])


def rows(app: AppTest) -> str:
    """The list of runs."""
    return "\n".join(
        element.proto.body for element in app.get("html") if 'class="cam-run"' in element.proto.body
    )


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


def test_without_runs_it_invites_to_start_one(folder):
    app = page()
    assert "There are no runs yet" in text(app)
    assert list_labels(finish(app).button) == ["Start the run"]
    metrics = find(app.multiselect, "Metrics")
    assert metrics.value == ["deletion", "insertion", "grid_pointing_game"]
    name = app.text_input(key="name")
    assert (name.value, name.placeholder) == ("", "run-1")


def test_the_leaderboard_has_the_means_of_the_scores(copied):
    app = page(metric="Sparseness (Gini index)")
    every = cam.Run.open(copied).scores()
    mean = every[every["metric"] == "sparseness"].groupby("method", observed=True)["value"].mean()
    table = app.dataframe[0].value.set_index("method")
    assert table.loc["Grad-CAM", "mean"] == pytest.approx(mean["gradcam"], rel=1e-6)
    assert table.loc["centre (a baseline)", "mean"] == pytest.approx(mean["centre"], rel=1e-6)
    assert (table[["undefined", "failed", "skipped"]] == 0).all().all()
    assert (table["values"] == 12).all() and sorted(table["rank"]) == [1, 2, 3]
    # The mosaics are recombinations of four photos: means, and nothing that needs a sample.
    assert (table["interval"] == "too few (1 group)").all() and table["low"].isna().all()
    assert "Ranks are not tested: too few (1 group), and 8 are needed." in text(app)
    assert "Take care: the mosaics are recombinations of the same four photos" in text(app)


def test_a_run_over_a_sample_has_intervals_tests_and_stability(sampled):
    app = page(run="sampled", metric="Top-k intersection (k=100)")
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
    app = page(only_class="espresso", metric="Grid pointing game")
    run = cam.Run.open(copied)
    items, every = run.items(), run.scores()
    part = every[every["item"].isin(items[items["label"] == "espresso"]["item"])]
    part = part[(part["metric"] == "grid_pointing_game") & (part["method"] == "saliency")]
    table = app.dataframe[0].value.set_index("method")
    assert table.loc["Saliency map", "values"] == 3
    assert table.loc["Saliency map", "mean"] == pytest.approx(part["value"].mean(), rel=1e-6)


def test_images_sorted_and_one_of_them(copied):
    query = {"view": "Images", "metric": "Grid pointing game", "method": "Saliency map"}
    app = page(**query)
    values = cam.Run.open(copied).values("grid_pointing_game")["saliency"].sort_values()
    names = [button.label for button in app.button if button.label.startswith("grid-")]
    assert names == [f"grid-{item:05d}" for item in values.index]
    app = click(app, names[0])
    assert app.subheader[-1].value == names[0]
    table = app.dataframe[0].value
    row = table[(table["method"] == "Saliency map") & (table["metric"] == "Grid pointing game")]
    assert row["value"].iloc[0] == pytest.approx(values.iloc[0])
    assert not any(
        header.value == names[0] for header in click(app, "Back to all images").subheader
    )
    assert "no image 99" in list_values(page(item="99", **query).error)[0]
    assert "which is no number" in list_values(page(item="x", **query).error)[0]


def test_where_the_model_looks(copied):
    app = finish(page(view="Where it looks"))
    assert "group" in text(app) and "eigenvalues 0" in text(app)
    app = finish(app.selectbox(key="label").set_value("espresso").run())
    assert "3 maps of gradcam are too few for clusters" in text(app)


def test_a_run_against_another(copied, folder):
    assert "no other run" in text(page(view="Against another run"))
    shutil.copytree(copied, folder / "twin")
    app = page(view="Against another run", run="made")
    table = app.dataframe[0].value
    assert (table["verdict"] == "too few (1 group)").all() and (table["difference"] == 0).all()
    assert "6 of too few groups to tell (below 8)" in text(app)
    assert "12 images are in both" in text(app)
    assert "nothing of what determines them" in text(app)


def test_the_code_of_a_run_and_the_report(copied, tmp_path, monkeypatch):
    app = page(view="Take it home")
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
    assert "damaged" in rows(app) and "finished" in rows(app) and "it goes on" in rows(app)
    assert any("is damaged or of no run" in error.value for error in app.error)
    app = page(run="nobody")
    assert "asks for the run `nobody`, which is not here" in text(app)
    # The address is cleared, and jobs draw the page again within the second.
    assert "asks for the run `nobody`, which is not here" in text(check(app.run()))
    app = page(run="made", view="Images", page="7", start="true", size="none")
    assert "asks for `7` as 'Page'" not in text(app)  # there is one page only
    assert "asks for `none` as 'Images', which is no number from 1 to 5,000" in text(app)


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
    assert "finished" in rows(app) and "12 of 12 images" in rows(app)


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
    assert "stopped; it goes on" in rows(page())
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
    app = check(app.text_input(key="name").set_value(name).run())
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
    assert "There are no runs yet" in text(page())


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
        "run_metrics": ["Sparseness (Gini index)"],
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
    app = page("explore", of_run="run-1", image=str(items["Egyptian cat/chelsea.png"]))
    assert "**Grad-CAM** for Egyptian cat" in text(app)
    app = page("explore", of_run="run-1", image=str(items["espresso/link.png"]))
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
    assert link["of_run"] == "made" and link["image"] == "5"
    assert link["target"] == run.image(5).facts["label"]
    app = page("explore", **link)
    assert f"**Grad-CAM** for {link['target']}" in text(app)
    truth = cam.dataset("photo-grid", size=12)[5].image
    picture = run_pictures._read_picture(run, 5)
    assert np.array_equal(np.asarray(picture.photo.image), np.asarray(truth))
    names: dict = {}
    exec(f"import cam\nfound = {picture.code}", names)
    assert np.array_equal(np.asarray(names["found"]), np.asarray(truth))
    # It goes along to another page, whose address the browser begins anew.
    app.query_params.clear()
    app.switch_page("pages/anatomy.py")
    app.run()
    assert not app.exception and "Image 5 of the run **made**" in text(app)
    assert app.query_params["of_run"] == "made"
    app = click(app, "Choose another picture")
    assert "Image 5" not in text(app) and not app.error


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"of_run": "nobody", "image": "1"}, "There is no run in"),
        ({"of_run": "../made", "image": "1"}, "is no name for a run"),
        ({"of_run": "made", "image": "12"}, "The run has no image 12"),
        ({"of_run": "made", "image": "-1"}, "is no number"),
    ],
    ids=["no run", "a path", "beyond", "negative"],
)
def test_a_link_to_a_picture_that_is_not_there(copied, query, says):
    app = page("explore", **query)
    assert any(says in error.value for error in app.error)
