"""Find a planted watermark, and nothing where there is none."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import kneighbors_graph
from torch import nn

import cam
from cam._cli.commands import main
from cam._runs.results.gallery import clusters as module
from tests.support.stand_in import Drop

SIZE, MARKED, PLAIN, OTHER = 56, 24, 56, 20
CORNER = (slice(44, 54), slice(2, 12))


class Pictures(torch.utils.data.Dataset):
    """Red squares ("thing") about the middle, some with a blue watermark; green ones ("other")."""

    classes = ("other", "thing")

    def __init__(self, marked: int = MARKED) -> None:
        random = np.random.default_rng(5)
        self.kinds = random.permutation(
            ["marked"] * marked + ["plain"] * (MARKED + PLAIN - marked) + ["other"] * OTHER
        )
        self.pictures = []
        for kind in self.kinds:
            picture = random.uniform(0, 0.2, (3, SIZE, SIZE)).astype(np.float32)
            row, column = random.integers(16, 25, 2)
            height, width = random.integers(12, 19, 2)
            colour = 1 if kind == "other" else 0
            picture[colour, row : row + height, column : column + width] += 0.7
            if kind == "marked":
                picture[2][CORNER] += 0.7
            self.pictures.append(torch.from_numpy(picture))

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, index: int):
        return self.pictures[index], int(self.kinds[index] != "other")


def network(watermark: float) -> cam.Model:
    """Maps of red, green and blue; red speaks for the thing, and so does blue, as strongly."""
    see = nn.Conv2d(3, 3, 1)
    judge = nn.Linear(3, 2)
    with torch.no_grad():
        see.weight.copy_(torch.eye(3)[:, :, None, None])
        see.bias.fill_(-0.3)
        judge.weight.copy_(torch.tensor([[0.0, 9.0, 0.0], [9.0, 0.0, watermark]]))
        judge.bias.zero_()
    module = nn.Sequential(
        see, nn.ReLU(), nn.AvgPool2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), judge
    )
    return cam.Model(module.eval(), layers="2", name="planted", labels=["other", "thing"])


def evaluated(path, watermark: float, marked: int = MARKED, **options) -> tuple[cam.Run, Pictures]:
    data = Pictures(marked)
    run = cam.evaluate(
        network(watermark), data, "gradcam", [Drop()], path / "run", shard_size=32, **options
    )
    return run, data


@pytest.fixture(scope="module")
def shortcut(tmp_path_factory):
    return evaluated(tmp_path_factory.mktemp("shortcut"), watermark=18)


def planted(clusters, data) -> np.ndarray:
    return data.kinds[clusters.items["item"]] == "marked"


def test_a_planted_watermark_is_a_cluster_of_its_own(shortcut):
    run, data = shortcut
    clusters = run.clusters("gradcam", "thing")
    assert clusters.total == len(clusters.items) == MARKED + PLAIN
    assert adjusted_rand_score(planted(clusters, data), clusters.items["cluster"]) == 1
    assert clusters.table["size"].tolist() == [PLAIN, MARKED]
    # The watermark's cluster looks at the watermark, the other at the middle.
    row, column = clusters.table.loc[1, ["row", "column"]]
    assert 44 <= row * SIZE <= 54
    assert 2 <= column * SIZE <= 12
    assert 16 <= clusters.table.loc[0, "row"] * SIZE <= 42
    assert clusters.table.loc[1, "apart"] > 0.4
    assert all(data.kinds[item] == "marked" for item in clusters.table.loc[1, "representatives"])
    assert (
        clusters.items.loc[clusters.items["cluster"] == 1, "item"]
        .isin(clusters.table.loc[1, "representatives"])
        .sum()
        == 5
    )


@pytest.mark.parametrize(
    ("watermark", "marked"), [(0, MARKED), (18, 0)], ids=["not used", "not there"]
)
def test_without_the_shortcut_there_is_no_such_cluster(tmp_path, watermark, marked):
    run, data = evaluated(tmp_path, watermark, marked)
    clusters = run.clusters("gradcam", "thing")
    assert clusters.table["size"].tolist() == [MARKED + PLAIN]
    assert (clusters.table["row"] * SIZE).between(16, 42).all()
    assert np.isnan(clusters.table.loc[0, "apart"])
    # Nor is it found by those who insist: the two groups go by where the square is.
    forced = run.clusters("gradcam", "thing", count=2)
    assert len(forced.table) == 2
    assert abs(adjusted_rand_score(planted(forced, data), forced.items["cluster"])) < 0.1 or (
        not planted(forced, data).any()
    )


def test_class_averages_are_the_means_of_the_stored_maps(shortcut, monkeypatch):
    run, data = shortcut
    averages = run.class_averages("gradcam")
    assert averages.table.to_numpy().tolist() == [["thing", 80, 0], ["other", 20, 0]]
    for row, label in enumerate(("thing", "other")):
        members = [number for number, kind in enumerate(data.kinds) if (kind == "other") == row]
        images = run.pictures(members).values()
        truth = np.mean([entry.heatmaps["gradcam"].astype(float) for entry in images], axis=0)
        assert np.allclose(averages.maps[row], truth, rtol=0, atol=1e-6)
        assert averages.table.loc[row, "label"] == label
    # The mean of the class shows the shortcut that a third of its pictures have.
    assert averages.maps[0][46:52, 4:10].min() > 0.15
    assert averages.maps[1][46:52, 4:10].max() < 0.05
    # Read in parts, as a run of 100,000 images is.
    monkeypatch.setattr(module, "MAPS_AT_ONCE", 33)
    again = run.class_averages("gradcam")
    assert np.allclose(again.maps, averages.maps, rtol=1e-6, atol=0)
    assert again.table.equals(averages.table)
    in_parts = run.clusters("gradcam", "thing")
    monkeypatch.undo()
    assert in_parts.items.equals(run.clusters("gradcam", "thing").items)


def test_the_same_seed_gives_the_same_clusters_and_a_sample_is_told(shortcut):
    run, data = shortcut
    entry, other = (run.clusters("gradcam", "thing", limit=50, seed=3) for _ in range(2))
    assert entry.items.equals(other.items)
    assert entry.table.equals(other.table)
    assert entry.eigenvalues.tobytes() == other.eigenvalues.tobytes()
    assert (entry.total, len(entry.items)) == (80, 50)
    assert adjusted_rand_score(planted(entry, data), entry.items["cluster"]) == 1
    another = run.clusters("gradcam", "thing", limit=50, seed=4)
    assert another.items["item"].tolist() != entry.items["item"].tolist()
    every = run.clusters("gradcam")
    assert every.total == 100
    # What each map shows: the square, or the square and the watermark.
    assert adjusted_rand_score(planted(every, data), every.items["cluster"]) > 0.9


@pytest.mark.parametrize("size", [40, 260, 300], ids=["dense", "sparse", "in parts"])
def test_eigenvalues_are_those_of_the_laplacian_by_definition(size):
    points = np.random.default_rng(0).normal(size=(size, 3))
    if size == 300:
        points[:30] += 50
        points[30:60] -= 50
    joined = kneighbors_graph(points, 5).toarray()
    joined = np.maximum(joined, joined.T)
    root = np.diag(joined.sum(1) ** -0.5)
    laplacian = np.eye(size) - root @ joined @ root
    truth = np.linalg.eigvalsh(laplacian)
    values, vectors = module.compute_spectrum(points, 5, 8)
    assert np.allclose(values, truth[:9], atol=1e-12)
    assert (values < 1e-9).sum() == (3 if size == 300 else 1)
    assert np.allclose(laplacian @ vectors, vectors * values, atol=1e-10)
    assert np.allclose(vectors.T @ vectors, np.eye(9), atol=1e-10)


def test_groups_are_counted_and_what_passes_into_each_other_is_one():
    """Eigenvalues of a path are 1 - cos(πj / n), as 1 to 4 to 9: no gap. Apart, they are 0."""
    line = 1 - np.cos(np.pi * np.arange(9) / 200)
    assert module.count_groups(line) == 1
    assert module.count_groups(np.array([0, 0, 0, 0.1, 0.12, 0.2])) == 3
    assert module.count_groups(np.array([0, 0.01, 0.06, 0.12, 0.2])) == 2
    assert module.count_groups(np.array([-1e-17, 1e-18, 3e-16])) == 1
    for seed in range(5):
        random = np.random.default_rng(seed)
        square = random.uniform(size=(150, 2))
        assert module.count_groups(module.compute_spectrum(square, 5, 8)[0]) == 1
        three = np.concatenate([square[:20] + 9, square[20:70] - 9, square[70:]])
        assert module.count_groups(module.compute_spectrum(three, 5, 8)[0]) == 3


def test_maps_of_zeros_are_left_out_and_counted(tmp_path):
    """Where the mark is not there, nothing speaks for the thing: green is the other's."""

    class Half(Pictures):
        def __getitem__(self, index):
            return self.pictures[index], 1

    run = cam.evaluate(network(18), Half(), "gradcam", [Drop()], tmp_path / "run")
    clusters = run.clusters("gradcam")
    averages = run.class_averages("gradcam")
    assert averages.table.to_numpy().tolist() == [["thing", 80, 20]]
    assert (clusters.total, clusters.blank, len(clusters.items)) == (100, 20, 80)
    assert (Half().kinds[clusters.items["item"]] != "other").all()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda run: run.clusters("gradcm"), "no method 'gradcm'; did you mean 'gradcam'"),
        (lambda run: run.class_averages("lrp"), "no method 'lrp'"),
        (lambda run: run.clusters("gradcam", "thin"), "no class 'thin'; did you mean 'thing'"),
        (lambda run: run.clusters("gradcam", count=0), "count must be a whole number"),
        (lambda run: run.clusters("gradcam", limit=3), "limit must be a whole number of at least"),
        (lambda run: run.clusters("gradcam", side=True), "side must be a whole number"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(shortcut, call, sentence):
    with pytest.raises(cam.RunError, match=sentence):
        call(shortcut[0])


def test_too_few_images_and_no_heatmaps(tmp_path):
    few = torch.utils.data.Subset(Pictures(), range(5))
    run = cam.evaluate(network(18), few, "gradcam", [Drop()], tmp_path / "few")
    with pytest.raises(cam.RunError, match="too few for clusters; at least 10"):
        run.clusters("gradcam")
    run = cam.evaluate(network(18), few, "gradcam", [Drop()], tmp_path / "none", heatmaps=0)
    for call in (run.clusters, run.class_averages):
        with pytest.raises(cam.RunError, match="the run kept no heatmaps"):
            call("gradcam")


def test_the_command_and_the_report_show_the_watermark(shortcut, tmp_path):
    run, data = shortcut
    call = ["clusters", str(run.path), "--method", "gradcam", "--label", "thing"]
    result = CliRunner().invoke(main, call)
    assert result.exit_code == 0, result.output
    assert "thing: gradcam of 80 images: 2 groups" in result.stdout
    assert "1  24 images (30%)" in result.stdout
    listed = json.loads(CliRunner().invoke(main, [*call, "--json"]).stdout)
    parts = [entry["cluster"] for entry in listed["items"]]
    marked = data.kinds[[entry["item"] for entry in listed["items"]]] == "marked"
    assert adjusted_rand_score(marked, parts) == 1
    assert listed["clusters"][1]["size"] == MARKED
    assert listed["clusters"][1]["representatives"][0].startswith("item-")
    assert listed["clusters"][0]["apart"] == pytest.approx(0.48, abs=0.1)
    assert listed["clusters"][1]["apart"] == pytest.approx(listed["clusters"][0]["apart"])
    wrong = CliRunner().invoke(main, [*call[:3], "lrp"])
    assert wrong.exit_code == 1
    assert "no method 'lrp'" in wrong.stderr
    page = tmp_path / "report.html"
    assert CliRunner().invoke(main, ["report", str(run.path), "--out", str(page)]).exit_code == 0
    text = page.read_text()
    assert "Where the model looks" in text
    assert "thing: Grad-CAM of 80 images: 2 groups" in text
    assert "mean of a group of 24 (30%)" in text
    typical = run.clusters("gradcam", "thing").table.loc[1, "representatives"][:2]
    assert all(f"typical of it: item-{item:08d}" in text for item in typical)
    assert "other: Grad-CAM of 20 images: one group" in text
