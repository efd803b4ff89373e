"""Recorded speeds are shown at once; this machine is measured on request."""

import json
from dataclasses import replace
from functools import partial
from unittest.mock import create_autospec

import pytest
import torch

import cam
from cam import kernels
from cam._formatting import size
from cam._performance import recorded_benchmarks, speed
from cam._performance.recorded_benchmarks import RESULTS
from cam._performance.recorded_speeds import Recording, read_recordings
from cam._performance.timing import Timing
from cam.kernels.inspection.entries import Entry
from cam.kernels.inspection.examples import PLANS
from cam.kernels.inspection.traffic import cam_traffic
from cam.pages.ui.performance import compile_report, measurement_job, recorded_view
from cam.pages.ui.performance.estimates import write_percent
from tests.support.dashboard_page import find, list_labels, open_page, read_html, read_words

page = partial(open_page, "performance")
SIX = (0.5,) * 6
# 2 images/s in each round; plain inference has half of that, and so has the recorded one.
HALF, WHOLE = Timing(SIX), Timing((1.0,) * 6)
RACE = speed.Race(
    {speed.INFERENCE: speed.Speed(1, 0, WHOLE), speed.OURS: speed.Speed(1, 1, HALF)},
    {speed.OURS: speed.Speed(1, 7, HALF)},
)
ROW = speed.Fidelity("gradcam", "fp32", speed.Speed(1, 1, HALF), 1.0, 1.0, torch.zeros(1, 4, 4))
FIDELITY = [ROW, replace(ROW, precision="bf16", spearman=0.75)]
TOGETHER = speed.Together({"gradcam": HALF}, {1: HALF})


def record(device: str, **more) -> Recording:
    about = {"date": "2026-01-02", "command": "python it", "model": "net"} | more
    return Recording(device=device, races={8: RACE, 1: RACE}, **about)


@pytest.fixture(autouse=True)
def no_jobs():
    measurement_job.get_measurement_jobs.clear()


@pytest.fixture
def recorded(monkeypatch):
    """Recordings of two devices instead of those beside the installation."""
    recordings = [record("NVIDIA X"), record("CPU (Y)", load=(7.5, 2))]
    monkeypatch.setattr("cam._performance.recorded_speeds.read_recordings", lambda: recordings)
    return recordings


def test_recorded_figures_are_there_at_once_and_nothing_is_measured(monkeypatch):
    def unasked(*_args, **_options):
        raise AssertionError("nobody asked for it")

    for name in ("race", "by_batch_size", "together", "by_precision"):
        monkeypatch.setattr(speed, name, unasked)
    monkeypatch.setattr("cam.kernels.inspection.report_stream.subprocess.Popen", unasked)
    app = page()
    assert not app.error and not app.warning
    [recording, *_] = read_recordings()
    share = recording.races[1].speeds[speed.OURS]
    share = share.relative_to(recording.races[1].speeds[speed.INFERENCE])
    drawn = read_html(app)
    assert f">{write_percent(share)}<" in drawn and ">cam (this library)<" in drawn
    assert "with-interval" in drawn and "No GPU has been recorded yet" in read_words(app)
    # What is said of it: whose it is, when, and by which command.
    assert recording.device in drawn and "Command: `python -m benchmarks.speed`" in read_words(app)
    buttons = set(list_labels(app.button))
    assert buttons >= {
        "Measure speed", "Measure batch sizes", "Measure methods in one pass",
        "Measure precisions", "Compile",
    }  # fmt: skip


def test_each_device_has_its_panel_and_a_gpu_comes_first(recorded):
    app = page(batch="1")
    drawn, words = read_html(app), read_words(app)
    assert drawn.index("Recorded: NVIDIA X") < drawn.index("Recorded: CPU (Y)")
    assert words.index("**NVIDIA X**, batch of 1; net; 2 January 2026. Command: `python it`.")
    assert "load 7.5 on 2 cores when it began, so other work slowed all of them" in words
    # Twice plain inference, in each round: the interval has no width.
    assert (
        ">200 %<" in drawn
        and "of plain inference&#x27;s images/s; 95 % interval 200 to 200 %<" in drawn
    )
    assert "2.00 (2.00–2.00) · 200 % (200–200)" in drawn
    assert "No GPU has been recorded yet" not in words


def test_without_recordings_the_page_says_so(monkeypatch):
    monkeypatch.setattr("cam._performance.recorded_speeds.read_recordings", list)
    app = page()
    assert "No speed is recorded for this batch size" in app.info[0].value
    assert "Measure speed" in list_labels(app.button)


# A measuring function and its result here.
MEASURED = {
    "race": RACE,
    "by_batch_size": {1: RACE.speeds},
    "together": TOGETHER,
    "by_precision": FIDELITY,
}


def test_the_copied_code_runs(monkeypatch, capsys):
    app = page(code="true", sample="Rocket", batch="1")
    [code] = [block.value for block in app.code]
    for name, result in MEASURED.items():
        # A call that does not fit the real function's signature is an error here too.
        double = create_autospec(getattr(speed, name), return_value=result)
        monkeypatch.setattr(speed, name, double)
    stream = create_autospec(compile_report.stream, return_value=[entry("overlay_kernel")])
    monkeypatch.setattr("cam.kernels.inspection.report_stream.stream", stream)
    namespace: dict = {}
    exec(code, namespace)
    printed = capsys.readouterr().out
    assert "Estimate(median=2.0, low=2.0, high=2.0)" in printed
    assert "gradcam bf16 2.0 0.75\n" in printed
    assert str(entry("overlay_kernel")) in printed
    assert str(namespace["traffic"].floor) in printed


def test_measured_on_request_beside_what_is_recorded(monkeypatch, recorded):
    calls = []

    def race(_model, batch, report):
        calls.append(len(batch))
        report(0.5, speed.Race({}, {}), "round 1 of 9")
        mine, plain = Timing((0.25,) * 6), Timing((0.2,) * 6)
        return speed.Race(
            {speed.INFERENCE: speed.Speed(1, 0, plain), speed.OURS: speed.Speed(1, 1, mine)},
            {},
            ("torchcam",),
            {"grad-cam": "RuntimeError: no"},
        )

    monkeypatch.setattr(speed, "race", race)
    app = page(batch="1")
    app = find(app.button, "Measure speed").click().run()
    assert not app.exception and calls == [1]
    assert "4.00 (4.00–4.00) · 80.0 % (80.0–80.0)" in read_html(app)
    assert "2.00 (2.00–2.00) · 200 % (200–200)" in read_html(app), "the recorded ones stay"
    words = read_words(app)
    assert "Not installed there, so not measured: torchcam." in words
    assert "grad-cam cannot explain this model: RuntimeError: no." in words
    assert "Medians of 9 interleaved rounds with 95 % intervals; efficientnet_lite0. CPU" in words
    # The next visitor sees it without a click, and nothing is measured anew.
    assert "4.00 (4.00–4.00)" in read_html(page(batch="1")) and len(calls) == 1
    find(app.button, "Measure speed again").click().run()
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("label", "name", "figure"),
    [
        ("Measure batch sizes", "by_batch_size", "2.00 (2.00–2.00) · 200 % (200–200)"),
        ("Measure methods in one pass", "together", "500 ms (500–500)"),
        ("Measure precisions", "by_precision", "2.00 (2.00–2.00) · 1.00 × (1.00–1.00)"),
    ],
)
def test_each_section_is_measured_alone(monkeypatch, recorded, label, name, figure):
    double = create_autospec(getattr(speed, name), return_value=MEASURED[name])
    monkeypatch.setattr(speed, name, double)
    app = find(page().button, label).click().run()
    assert not app.exception and double.call_count == 1
    assert figure in read_html(app)


def test_an_error_is_one_sentence_and_can_be_tried_again(monkeypatch):
    def failing(*_args, **_options):
        raise cam.InputError("the batch is odd")

    monkeypatch.setattr(speed, "together", failing)
    app = page()
    app = find(app.button, "Measure methods in one pass").click().run()
    assert app.error[0].value == "The batch is odd."
    assert "Measure methods in one pass" in list_labels(app.button)


def entry(kernel: str, **figures) -> Entry:
    usual = {
        "case": "7×7", "dtype": "float32", "layout": "contiguous", "threads": 256, "spills": 0,
        "registers": 64, "shared": 4096, "loads": {"128": 2, "32": 7}, "stores": {"32": 1},
        "occupancy": 0.5, "megabytes": 1.0, "floor": 1.0,
    }  # fmt: skip
    return Entry(kernel=kernel, target="sm_90", **usual | figures)


def test_the_compilers_work_is_told_kernel_by_kernel(monkeypatch):
    first, second, *_ = compile_report.TITLES

    def stream(targets):
        assert targets == ["sm_90"]
        yield entry(first, registers=32, occupancy=1.0)
        yield entry(second, spills=3, loads={"32": 7}, shared=0)
        yield entry(first)

    monkeypatch.setattr(compile_report, "stream", stream)
    app = page()
    app = find(app.button, "Compile").click().run()
    assert not app.exception
    # The style sheet stands apart from what the page draws.
    whole, cards = [html for html in app.get("html") if "<style>" not in html.proto.body][-2:]
    for figure in (">3<", ">spills in 3 launches<", ">2 of 3<", ">50–100 %<"):
        assert figure in whole.proto.body, figure
    first_card, second_card = cards.proto.body.split("</section>")[:2]
    for figure in (">none ✓<", ">in 2 of 2 ✓<", ">32–64 of 255<", ">up to 4 KiB of 228 KiB<"):
        assert figure in first_card, figure
    for figure in (">3 ⚠<", ">in 0 of 1<", ">64 of 255<", ">none<", ">50 %<"):
        assert figure in second_card, figure
    assert "Compiled on this server for H100 (sm_90)" in read_words(app)


def test_every_kernel_has_a_title():
    assert set(compile_report.TITLES) == set(PLANS)


def test_traffic_is_that_of_the_layers_shape(bundled):
    app = page()
    [shape] = [layer.shape for layer in bundled.feature_layers if layer.name == bundled.layers[0]]
    traffic = cam_traffic((64, *shape), kernels.RULES, torch.bfloat16)
    assert size(traffic.plain_bytes) in read_html(app)
    assert f">{traffic.plain_bytes / traffic.fused.bytes:.1f} ×<" in read_html(app)
    assert "Counted from shapes, **not measured**" in read_words(app)


def test_recorded_benchmarks_say_where_they_are_from():
    app = page(**{"recorded-methods-cpu": "true"})
    written = json.loads((RESULTS / "methods-cpu.json").read_text())
    assert (
        f"Device: {written['machine']}  \nMeasured: {written['date']}  \n"
        "Command: `make benchmark`; file: `methods-cpu`"
    ) in read_words(app)


def test_a_recordings_tables_and_headings(monkeypatch):
    rows = "| a | | |\n|---|---|--:|\n| 1 | x \\| z | 2.5 |\n| 3 | y | 4.5 |\n"
    text = f"# Title\n\n{rows}\nGoal: met.\n"
    file = recorded_benchmarks.Recording("nvidia-x", "Kernels", "NVIDIA X", "2026", None, text)
    monkeypatch.setattr(recorded_view, "recordings", lambda: [file])
    app = page(**{"recorded-nvidia-x": "true"})
    assert not app.exception and "No result of a GPU" not in read_words(app)
    [table] = app.dataframe
    assert [head.strip() for head in table.value] == ["a", "", ""]
    assert table.value.to_numpy().tolist() == [["1", "x | z", "2.5"], ["3", "y", "4.5"]]
    assert "#### Title" in read_words(app) and "Goal: met." in read_words(app)


def test_sizes_as_people_say_them():
    assert [size(n) for n in (12, 12_345, 1.5e6, 2e10)] == [
        "12 B", "12.3 kB", "1.5 MB", "20 GB",
    ]  # fmt: skip
