"""Test what the compiler makes of the kernels for absent GPUs."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cam.kernels.inspection import machine_code
from cam.kernels.inspection import report as inspection_report
from cam.kernels.inspection.bounds import bounds_table
from cam.kernels.inspection.devices import DEVICES
from cam.kernels.inspection.entries import Entry
from cam.kernels.inspection.examples import PLANS, examples

pytest.importorskip("triton")

CAMS = ("plane_cam_kernel", "walk_cam_kernel")


def compiler(*arguments, **variables):
    environment = {name: text for name, text in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def report(*targets):
    options = [word for target in targets for word in ("--target", target)]
    done = compiler("-m", "cam.kernels.inspection", "--json", *options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def entries():
    return report("sm_80", "sm_90")


def named(entries, *kernels):
    selected = [entry for entry in entries if entry["kernel"] in kernels]
    assert {entry["target"] for entry in selected} == {"sm_80", "sm_90"}
    return selected


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_compiles_every_kernel_for_ampere_and_hopper(entries):
    for target in ("sm_80", "sm_90"):
        assert {entry["kernel"] for entry in entries if entry["target"] == target} == set(PLANS)
    for entry in entries:
        assert entry["loads"], "a kernel that loads nothing cannot be right"
        assert entry["stores"]


@pytest.mark.slow
def test_the_documentation_says_what_bounds_each_launch(entries):
    """The table of docs/kernels.md is what `--markdown` prints, GPU by GPU."""
    text = Path("docs/kernels.md").read_text()
    documented = read_table(text[text.index("| kernel | launch | layout |") :].split("\n\n")[0])
    counted = read_table(bounds_table([Entry(**entry) for entry in entries]))
    assert documented.keys() == counted.keys()
    for launch, cells in counted.items():
        for device, cell in cells.items():
            assert documented[launch][device] == cell, (launch, device)


def read_table(text):
    """Read the cells of a table in Markdown, by the first three and by the column."""
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n"))
    return {tuple(row[:3]): dict(zip(head[3:], row[3:], strict=True)) for row in rows}


@pytest.mark.slow
def test_nothing_is_kept_in_local_memory(entries):
    assert [entry for entry in entries if entry["spills"]] == []


@pytest.mark.slow
def test_at_least_half_of_a_core_is_occupied(entries):
    assert [entry for entry in entries if entry["occupancy"] < 0.5] == []


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["channels-last", "contiguous"])
def test_layers_are_read_sixteen_bytes_at_a_time(layout, entries):
    """Contiguous ones too, 49 and 196 pixels a plane among them."""
    for entry in named(entries, *CAMS):
        if entry["layout"] == layout:
            # A tile gives each thread 16 bytes of A and 16 of G, or twice that in float32 planes.
            assert entry["loads"].get("128", 0) >= 2, entry
            # What is narrower reads partial maps, sums and weights, which are float32.
            assert not {"8", "16"} & set(entry["loads"]), entry


@pytest.mark.slow
def test_pictures_are_written_sixteen_bytes_at_a_time(entries):
    for entry in named(entries, "masked_batch_kernel", "label_batch_kernel", "overlay_kernel"):
        assert set(entry["stores"]) == {"128"}, entry


@pytest.mark.slow
def test_moments_are_read_and_written_sixteen_bytes_at_a_time(entries):
    for entry in named(entries, "moments_kernel"):
        assert "128" in entry["loads"], entry
        assert set(entry["stores"]) == {"128"}, entry


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiles_for_ada_blackwell_and_amd():
    compiled = report("sm_89", "sm_100", "gfx942")
    assert {entry["target"] for entry in compiled} == {"sm_89", "sm_100", "gfx942"}
    # Of the 64 registers that keep two programs on a core, Blackwell's compiler misses up to five
    # in two cases of bfloat16 with channels last: six rules with all outputs at 14×14, and the
    # percentile of a picture. They stay in the first cache.
    spilled = [entry for entry in compiled if entry["spills"]]
    assert all(entry["target"] == "sm_100" and entry["spills"] <= 5 for entry in spilled), spilled
    # Warps, and AMD's waves, have no other place to meet.
    assert all(entry["shared"] for entry in compiled if entry["kernel"] in CAMS)


@pytest.mark.parametrize("target", DEVICES)
def test_launches_have_only_options_that_the_compiler_knows(target):
    """Triton's launcher refuses others; what is launched is what is compiled here."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend

    device = DEVICES[target]
    backend = make_backend(GPUTarget(device.backend, device.architecture, device.warp))
    compiler_options = vars(backend.parse_options({}))
    options = [example.launch().options(device.backend, device.warp) for example in examples()]
    assert all(set(names) <= set(compiler_options) for names in options)
    assert all(names["num_warps"] * device.warp >= 128 for names in options)


@pytest.mark.parametrize(
    ("target", "threads", "registers", "shared", "share"),
    [
        ("sm_90", 512, 64, 0, 0.5),  # 65,536 registers hold 1,024 threads of 64
        ("sm_90", 512, 65, 0, 0.25),  # 72 after rounding: one program
        ("sm_80", 128, 32, 0, 1.0),
        ("sm_80", 128, 32, 81 * 1024, 2 * 128 / 2048),  # 164 KiB hold two of 81 + 1 KiB
        ("sm_89", 1024, 32, 0, 1024 / 1536),
        ("sm_90", 32, 16, 0, 0.5),  # 32 programs at most
        ("gfx942", 256, 128, 0, 0.5),  # 512 registers a lane: four waves of eight on each SIMD
    ],
)
def test_occupancy_is_what_the_limits_leave(target, threads, registers, shared, share):
    share_of_core = machine_code.occupancy(DEVICES[target], threads, registers, shared)
    assert share_of_core == pytest.approx(share)


@pytest.mark.slow
# Some 550 kernels, nine minutes of a compiler on one core.
@pytest.mark.timeout(3600)
def test_every_combination_of_rules_and_outputs_compiles():
    program = """
import itertools, torch
from cam.kernels.class_activation import launcher as triton_cam
from cam.kernels.input_gradient import launcher as triton_saliency
from cam.kernels.inspection.devices import DEVICES
from cam.kernels.inspection.machine_code import compiled
from cam.kernels.class_activation.rules import Rule
flags, device = (False, True), DEVICES["sm_90"]
dtypes = (torch.float32, torch.float16, torch.bfloat16)
for w, dtype in itertools.product((7, 192, 190), dtypes):
    a = torch.empty((2, 40, 7, w), dtype=dtype, device="meta")
    far = torch.empty_strided((2, 40, 7, w), (1, 2**30 + 1, w, 1), dtype=dtype, device="meta")
    for maps, signed, weights in itertools.product(flags, repeat=3):
        if maps or signed:
            compiled(triton_cam.plan(
                a, a, [*Rule], maps=maps, signed=signed, weights=weights)[0], device)
    for count in (1, 2, 3):
        for rules in itertools.combinations(Rule, count):
            launch, _ = triton_cam.plan(a, a, rules, maps=True, signed=True, weights=True)
            # Planes of 7 × 190 start anywhere, so each element has a separate pointer.
            most = 16 if w == 190 else 0
            assert compiled(launch, device).spills <= most, (w, dtype, rules)
    launch, _ = triton_cam.plan(far, a, [*Rule], maps=True, signed=True, weights=True)
    assert launch.arguments["TILE"][4]  # 64 bits
    compiled(launch, device)
    for reduce, maps, inputs in itertools.product(("max", "sum", "l2"), flags, (None, a)):
        launch, *_ = triton_saliency.plan(a, inputs, reduce, maps=maps)
        compiled(launch, device)
    launch, *_ = triton_saliency.plan(far, a, "max", maps=True)
    compiled(launch, device)
print("done")
"""
    done = compiler("-c", program)
    assert done.stdout == "done\n", done.stderr[-3000:]


def test_prints_a_table(monkeypatch, capsys):
    entry = inspection_report.Entry(
        kernel="some_kernel",
        target="sm_90",
        case="3×4×5, 2 rules",
        dtype="float32",
        layout="contiguous",
        threads=128,
        registers=40,
        shared=1024,
        spills=0,
        loads={"128": 8, "32": 1},
        stores={},
        occupancy=0.75,
        megabytes=12.34,
        instructions=1,
        floor=5.67,
        issue_floor=9.51,
        shuffle_floor=1.23,
    )
    monkeypatch.setattr(
        inspection_report, "compile_report", lambda targets, *_: [entry for _ in targets]
    )
    assert inspection_report.main([]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["kernel", "target", "case", "dtype", "layout"]
    assert len(rows) == len(inspection_report.TARGETS)
    cells = ["128", "40", "1024", "0", "8×128", "1×32", "none", "75%", "12.3", "5.7", "9.5", "1.2"]
    assert rows[0].split()[-13:] == [*cells, "issue"]
    assert inspection_report.main(["--markdown", "--target", "sm_90"]) == 0
    assert (
        capsys.readouterr().out
        == "| kernel | launch | layout | H100 |\n| --- | --- | --- | --- |\n"
    )
    entry = replace(entry, dtype="bfloat16")
    assert inspection_report.main(["--markdown", "--target", "sm_90"]) == 0
    row = capsys.readouterr().out.splitlines()[2]
    cells = ("some", "3×4×5, 2 rules", "contiguous", "**issue 9.5 µs**, 1.7 × memory")
    assert row == f"| {' | '.join(cells)} |"


@pytest.mark.slow
def test_the_floor_is_every_argument_and_result_once():
    """ResNet-50's layer4 in bf16, 64 images: 25.7 MB, and a map of 49 float32 each."""
    (entry,) = [
        entry
        for entry in report_of("plane_cam_kernel", "1000")
        if entry["case"] == "2048×7×7, 1 rule" and entry["layout"] == "channels-last"
        if entry["dtype"] == "bfloat16"
    ]
    layer = 64 * 2048 * 49 * 2
    results = 4 * 64 * (49 + 49 + 2048)  # maps, signed maps, weights
    assert entry["floor"] == pytest.approx((2 * layer + results) / 1e6)  # µs at 1,000 GB/s
    assert entry["megabytes"] > entry["floor"]  # the partial maps


def report_of(kernel, bandwidth):
    done = compiler(
        *("-m", "cam.kernels.inspection", "--json", "--target", "sm_90"),
        *("--kernel", kernel, "--bandwidth", bandwidth),
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_refuses_interpreted_kernels_in_one_sentence():
    done = compiler("-m", "cam.kernels.inspection", TRITON_INTERPRET="1")
    assert done.returncode == 1
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("TRITON_INTERPRET is set")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--target", "hopper"), "'hopper' is not a known target; known: sm_80"),
        (("--kernel", "nothing"), "no kernel is named ['nothing']; known: "),
        (("--bandwidth", "0"), "--bandwidth must be above 0"),
        (("--bandwidth", "fast"), "invalid float value"),
    ],
)
def test_refuses_what_it_cannot_read(arguments, sentence):
    done = compiler("-m", "cam.kernels.inspection", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
