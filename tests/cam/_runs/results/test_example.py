"""Check the run that comes with the package."""

import numpy as np

import cam
from cam._runs.results.example import FOLDER
from tools import make_example_run


def test_it_is_a_finished_run_of_64_images():
    run = cam.example_run()
    assert (run.done, run.total, len(run.metrics)) == (64, 64, 4)
    assert run.problems().empty
    assert run.image(0).picture is not None and len(run.image(0).heatmaps) == 7
    assert sum(file.stat().st_size for file in FOLDER.rglob("*")) < make_example_run.MOST_BYTES
    assert not any(word in (FOLDER / "run.json").read_text() for word in ('"host"', '"system"'))


def test_its_first_scores_are_those_of_this_version(tmp_path):
    """Each image's pictures and maps do not depend on how many there are."""
    again = make_example_run.make(tmp_path / "run", images=2)
    for metric in again.metrics:
        mine = again.values(metric).to_numpy()
        truth = cam.example_run().values(metric).iloc[:2].to_numpy()
        # Another processor made the run: in float32 the sums of its convolutions differ by 1.2e-4.
        assert np.allclose(mine, truth, atol=1e-3, equal_nan=True), metric


def test_the_exact_method_agrees_with_the_exact_attribution():
    """Integrated gradients are exact where patterns add up; the centre knows of none."""
    means = cam.example_run().values("truth_correlation").mean()
    assert means["integrated_gradients"] > 0.999
    assert abs(means["centre"]) < 0.1


def test_what_made_it_can_be_opened_again():
    call = cam.example_run().call
    assert len(call.open_data()) == 64 and call.load_model().name == "known/patch"
