"""Test that the page Performance measures only on request, and shows it."""

import json
from functools import partial
from unittest.mock import create_autospec

import pytest
import torch

import cam
from cam import kernels
from cam._formatting import size
from cam._performance import speed
from cam._performance.recorded_benchmarks import Recording
from cam._performance.timing import Timing
from cam.kernels.inspection.examples import PLANS
from cam.kernels.inspection.report import Entry
from cam.kernels.inspection.traffic import cam_traffic
from cam.pages.ui.performance import compile_report, measurement_job, recorded_view
from tests.support.checkout import DASHBOARD
from tests.support.dashboard_page import find, list_labels, open_page, read_html, read_words

RESULTS = DASHBOARD.parent / "benchmarks" / "results"
PARTS = [
    "Speed", "Batch size", "Methods in one pass", "Precision", "Clip",
    "Memory traffic", "Compiler", "Recorded results",
]  # fmt: skip


page = partial(open_page, "performance")


@pytest.fixture(autouse=True)
def no_jobs():
    measurement_job.get_measurement_jobs.clear()


@pytest.mark.parametrize("part", PARTS)
def test_a_link_to_a_part_measures_nothing(part, monkeypatch):
    def unasked(*_args, **_options):
        raise AssertionError("nobody asked for it")

    for name in ("race", "by_batch_size", "together", "by_precision"):
        monkeypatch.setattr(speed, name, unasked)
    monkeypatch.setattr("cam.kernels.inspection.report_stream.subprocess.Popen", unasked)
    app = page(part=part)
    assert app.header[0].value == part and not app.error and not app.warning
    buttons = set(list_labels(app.button))
    assert buttons & {"Measure", "Explain the clip", "Compile"} or part in PARTS[5::2]


# A measuring function, its result here, and what the copied code prints of that.
HALF = Timing((0.5,))
RACE = speed.Race({"cam": speed.Speed(1, 1, HALF)}, {})
FIDELITY = speed.Fidelity("gradcam", "bf16", speed.Speed(1, 1, HALF), 0.75, 0.5, torch.zeros(1))
MEASURED = {
    "Speed": ("race", RACE, "cam 2.0\n"),
    "Batch size": ("by_batch_size", {1: RACE.speeds}, f"{ {1: RACE.speeds} }\n"),
    "Methods in one pass": (
        "together", speed.Together({"gradcam": HALF}, {1: HALF}), "1 0.5 0.5\n"
    ),
    "Precision": ("by_precision", [FIDELITY], "gradcam bf16 2.0 0.75\n"),
}  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_the_copied_code_runs(part, monkeypatch, tmp_path, capsys):
    app = page(part=part, code="true", sample="Rocket", batch="4")
    [code] = [block.value for block in app.code]
    if part in MEASURED:
        # A call that does not fit the real function's signature is an error here too.
        name, result, printed = MEASURED[part]
        monkeypatch.setattr(speed, name, create_autospec(getattr(speed, name), return_value=result))
    if part == "Compiler":
        stream = create_autospec(compile_report.stream, return_value=[entry("overlay_kernel")])
        monkeypatch.setattr("cam.kernels.inspection.report_stream.stream", stream)
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    exec(code, namespace)
    output = capsys.readouterr().out
    if part in MEASURED:
        assert output == printed
        batch = namespace["batch"]
        assert len(batch) == (4 if part in ("Speed", "Methods in one pass") else 1)
    elif part == "Clip":
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "explained.mp4", "explained.webp",
        ]  # fmt: skip
    else:
        beginning = {
            "Memory traffic": str(namespace["traffic"].floor if part == "Memory traffic" else ""),
            "Compiler": str(entry("overlay_kernel")),
            "Recorded results": "[Recording(",
        }
        assert output.startswith(beginning[part])


def test_a_part_that_is_not_there_is_told():
    assert "`Sped`" in page(part="Sped").warning[0].value


def test_measured_on_request_with_what_it_stands_on(monkeypatch):
    calls = []

    def race(_model, batch, rounds, report):
        calls.append((len(batch), rounds))
        report(0.5, speed.Race({}, {}), "round 1 of 5")
        half, quarter = Timing((0.5,)), Timing((0.25,))
        return speed.Race(
            {
                speed.INFERENCE: speed.Speed(1, 0, quarter),
                speed.OURS: speed.Speed(1, 1, half),
                "captum": speed.Speed(1, 1, Timing((1.0,))),
            },
            {speed.OURS: speed.Speed(1, 7, half)},
            ("torchcam",),
            {"grad-cam": "RuntimeError: no"},
        )

    monkeypatch.setattr(speed, "race", race)
    app = page(part="Speed")
    app = find(app.button, "Measure").click().run()
    assert not app.exception and calls == [(1, 5)]
    drawn = read_html(app)
    for figure in (">2.0<", ">50%<", ">14.0<", ">4.00<", ">1.00<"):
        assert figure in drawn, figure
    assert "Not installed here, so not measured: torchcam." in read_words(app)
    assert "grad-cam cannot explain this model here: RuntimeError: no." in read_words(app)
    assert "Medians of 5 interleaved rounds; efficientnet_lite0, batch of 1; CPU" in read_words(app)
    # The next visitor sees it without a click, and nothing is measured anew.
    assert ">50%<" in read_html(page(part="Speed")) and len(calls) == 1
    find(app.button, "Measure again").click().run()
    assert len(calls) == 2


def test_an_error_is_one_sentence_and_can_be_tried_again(monkeypatch):
    def failing(*_args, **_options):
        raise cam.InputError("the batch is odd")

    monkeypatch.setattr(speed, "together", failing)
    app = page(part="Methods in one pass")
    app = find(app.button, "Measure").click().run()
    assert app.error[0].value == "The batch is odd."
    assert "Measure" in list_labels(app.button)


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
    app = page(part="Compiler")
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
    app = page(part="Memory traffic")
    [shape] = [layer.shape for layer in bundled.feature_layers if layer.name == bundled.layers[0]]
    traffic = cam_traffic((64, *shape), kernels.RULES, torch.bfloat16)
    assert size(traffic.plain_bytes) in read_html(app)
    assert f">{traffic.plain_bytes / traffic.fused.bytes:.1f} ×<" in read_html(app)
    assert "Counted from shapes, **not measured**" in read_words(app)


def test_recorded_results_say_where_they_are_from():
    text = read_words(page(part="Recorded results"))
    assert "**What methods cost, beside a plain forward and other packages**" in text
    written = json.loads((RESULTS / "methods-cpu.json").read_text())
    assert (
        f"Device: {written['machine']}  \nMeasured: {written['date']}  \n"
        "Written by: `make benchmark`, as `methods-cpu`"
    ) in text


def test_a_recordings_tables_and_headings(monkeypatch):
    rows = "| a | | |\n|---|---|--:|\n| 1 | x \\| z | 2.5 |\n| 3 | y | 4.5 |\n"
    text = f"# Title\n\n{rows}\nGoal: met.\n"
    recording = Recording("nvidia-x", "Kernels on X", "NVIDIA X", "2026-01-02", None, text)
    monkeypatch.setattr(recorded_view, "recordings", lambda: [recording])
    app = page(part="Recorded results")
    app.session_state["recorded-nvidia-x"] = True
    app.run()
    assert not app.exception and "No result of a GPU" not in read_words(app)
    [table] = app.dataframe
    assert [head.strip() for head in table.value] == ["a", "", ""]
    assert table.value.to_numpy().tolist() == [["1", "x | z", "2.5"], ["3", "y", "4.5"]]
    assert "#### Title" in read_words(app) and "Goal: met." in read_words(app)


def test_sizes_as_people_say_them():
    assert [size(n) for n in (12, 12_345, 1.5e6, 2e10)] == [
        "12 B", "12.3 kB", "1.5 MB", "20 GB",
    ]  # fmt: skip
