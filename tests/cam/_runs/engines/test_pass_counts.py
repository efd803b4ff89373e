"""Progress by passes: counted by hooks of the test, and by hand."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import cam
from cam._runs.engines import run_progress
from tests.support.stand_in import Inside, network

METHODS = ["gradcam", cam.method("integrated_gradients", steps=12), cam.method("rise", masks=30)]


def follow(tmp_path, monkeypatch, **options):
    """Evaluate with a report at each beat; the passes of the network as a hook counts them."""
    monkeypatch.setattr(run_progress, "BEAT_SECONDS", 0)
    model = options.pop("model", None) or network()
    counted = []

    def count(module, inputs, output):
        counted.append(len(inputs[0]))

    reports, at = [], []

    def report(progress):
        reports.append(progress)
        at.append(sum(counted))

    handle = model.module.register_forward_hook(count)
    try:
        run = cam.evaluate(
            model,
            options.pop("data", None) or cam.dataset("photo-grid", size=10),
            options.pop("methods", METHODS),
            options.pop("metrics", [cam.metric("deletion", steps=8), Inside()]),
            out=tmp_path / "run",
            shard_size=5,
            batch_size=8,
            progress=report,
            **options,
        )
    finally:
        handle.remove()
    return run, reports, at


def test_every_few_passes_are_a_report(tmp_path, monkeypatch):
    """A batch of 8 inputs at most lies between two reports, and the bar moves with each."""
    _, reports, at = follow(tmp_path, monkeypatch)
    steps = [after - before for before, after in pairwise(at)]
    # A method's two ends go through before it reports, each in its own batch.
    assert max(steps) <= 3 * 8
    fractions = [report.fraction for report in reports]
    assert fractions == sorted(fractions) and (fractions[0], fractions[-1]) == (0, 1)
    # Some reports come with a map so far, or begin another part, at the same pass.
    assert len(set(fractions)) > 60
    assert reports[0].seconds_left is None and reports[-1].seconds_left == 0
    assert all(report.seconds_left is not None for report in reports if report.fraction)


def test_the_bar_follows_the_passes(tmp_path, monkeypatch):
    """At each report the bar is where the hook's count is, of the hook's total."""
    _, reports, at = follow(tmp_path, monkeypatch)
    begun = [report.measuring for report in reports].index("shared passes")
    asking = at[begun]
    whole = at[-1] - asking
    for report, count in zip(reports[begun:], at[begun:], strict=True):
        assert abs(report.fraction - (count - asking) / whole) < 0.03
    assert reports[-1].passes == reports[-1].total_passes == whole
    # Asking costs about a pass of one image for each method and metric, and the picture's own.
    assert asking <= 2 * (len(METHODS) + 2) + 2


def test_it_begins_with_what_methods_and_metrics_announce(tmp_path, monkeypatch):
    """Before a part has run its passes are right: by hand, for each of the images."""
    _, reports, _ = follow(tmp_path, monkeypatch)
    first = next(report for report in reports if report.measuring == "shared passes")
    further = 1 + 13 + 30
    assert abs(first.total_passes - 10 * (further + 3 * (1 + 8))) < 0.1 * first.total_passes


def test_a_resumed_run_begins_where_it_was(tmp_path, monkeypatch):
    def stop(progress):
        return progress.done < 5

    with pytest.raises(cam.Cancelled):
        cam.evaluate(
            network(),
            cam.dataset("photo-grid", size=10),
            METHODS,
            [cam.metric("deletion", steps=8), Inside()],
            out=tmp_path / "run",
            shard_size=5,
            batch_size=8,
            progress=stop,
        )
    run, reports, at = follow(tmp_path, monkeypatch)
    assert reports[0].fraction == 0.5 and reports[0].done == 5
    fractions = [report.fraction for report in reports]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    # Those of the first start are counted with them, though another process made them.
    assert abs(reports[-1].passes - 2 * at[-1]) < 0.1 * reports[-1].passes
    assert run.done == 10


def test_a_finished_run_reports_nothing(tmp_path, monkeypatch):
    follow(tmp_path, monkeypatch)
    _, reports, at = follow(tmp_path, monkeypatch)
    assert reports == [] and at == []


class Failing(nn.Module):
    """A network that fails on some images, so that their batch is tried one by one."""

    def __init__(self):
        super().__init__()
        self.inside = network().module

    def forward(self, pixels):
        if (pixels.mean((1, 2, 3)) > 0.2).any():
            raise RuntimeError("too bright")
        return self.inside(pixels)


def test_failed_and_skipped_images_end_at_the_whole(tmp_path, monkeypatch):
    model = cam.Model(Failing().eval(), layers="inside.3")

    class Mixed:
        def __len__(self):
            return 10

        def __getitem__(self, index):
            if index == 3:
                raise ValueError("gone")
            generator = torch.Generator().manual_seed(index)
            return torch.rand(3, 32, 32, generator=generator) - (0.5 if index % 2 else 0), 0

    run, reports, _ = follow(
        tmp_path, monkeypatch, model=model, data=Mixed(), metrics=[cam.metric("deletion", steps=8)]
    )
    fractions = [report.fraction for report in reports]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    assert reports[-1].skipped == 1 and reports[-1].failed > 0
    assert run.done == 10


def test_metrics_that_explain_again_are_counted_by_the_networks_passes(tmp_path, monkeypatch):
    """Nested explanations move the bar too: the metric says nothing while one runs."""
    metrics = [cam.metric("max_sensitivity", samples=4)]
    _, reports, at = follow(tmp_path, monkeypatch, methods=["gradcam", METHODS[1]], metrics=metrics)
    assert max(after - before for before, after in pairwise(at)) <= 3 * 8
    assert len({report.fraction for report in reports}) > 40
