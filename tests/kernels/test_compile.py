"""What the compiler makes of the kernels for GPUs that are not there."""

import json
import os
import subprocess
import sys

import pytest

from kernels import inspect

pytest.importorskip("triton")


def compiler(*arguments, **variables):
    environment = {name: text for name, text in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def report(target):
    done = compiler("-m", "kernels.inspect", "--json", "--target", target)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def hopper():
    return report("sm_90")


def check(entries):
    assert {entry["kernel"] for entry in entries} == {"gradcam_kernel", "gradient_map_kernel"}
    assert [entry for entry in entries if entry["spills"]] == []
    # 168 registers a thread let three programs of 128 threads live on a core at once.
    assert [entry for entry in entries if not 0 < entry["registers"] <= 168] == []
    for entry in entries:
        assert entry["loads"], "a kernel that loads nothing cannot be right"


def test_compiles_for_hopper_without_spills(hopper):
    check(hopper)


def test_compiles_for_ampere_without_spills():
    check(report("sm_80"))


@pytest.mark.parametrize("plane", ["2048×7×7", "1024×14×14", "64×112×112"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_reads_channels_last_layers_sixteen_bytes_at_a_time(plane, dtype, hopper):
    (entry,) = [
        entry
        for entry in hopper
        if (entry["plane"], entry["dtype"], entry["layout"]) == (plane, dtype, "channels-last")
        and entry["kernel"] == "gradcam_kernel"
    ]
    # What is narrower reads the partial maps: float32, in rows that start anywhere.
    assert entry["loads"]["128"] >= 8
    assert "16" not in entry["loads"]


@pytest.mark.slow
def test_every_combination_of_outputs_compiles():
    program = """
import itertools, torch
from kernels import inspect, triton_cam, triton_saliency
flags = (False, True)
for w, dtype in itertools.product((7, 90), (torch.float32, torch.float16, torch.bfloat16)):
    a = torch.empty((2, 40, 7, w), dtype=dtype, device="meta")
    far = torch.empty_strided((2, 40, 7, w), (1, 2**30 + 1, w, 1), dtype=dtype, device="meta")
    for maps, signed, weights in itertools.product(flags, repeat=3):
        if maps or signed:
            launch, _ = triton_cam.plan(a, a, maps=maps, signed=signed, weights=weights)
            inspect._compile("sm_90", (40, 7, w), dtype, "contiguous", launch)
    launch, _ = triton_cam.plan(far, a, maps=True, signed=True, weights=True)
    assert launch.arguments["INT64"]
    inspect._compile("sm_90", (40, 7, w), dtype, "far", launch)
    for reduce, maps, inputs in itertools.product(("max", "sum", "l2"), flags, (None, a)):
        launch, *_ = triton_saliency.plan(a, inputs, reduce, maps=maps)
        inspect._compile("sm_90", (40, 7, w), dtype, "contiguous", launch)
    launch, *_ = triton_saliency.plan(far, a, "max", maps=True)
    inspect._compile("sm_90", (40, 7, w), dtype, "far", launch)
print("done")
"""
    done = compiler("-c", program)
    assert done.stdout == "done\n", done.stderr


def test_prints_a_table(monkeypatch, capsys):
    entry = inspect.Compiled(
        kernel="some_kernel",
        target="sm_90",
        plane="3×4×5",
        dtype="float32",
        layout="contiguous",
        registers=40,
        spills=0,
        loads={"128": 8, "32": 1},
    )
    monkeypatch.setattr(inspect, "compile_report", lambda targets: [entry] * len(targets))
    assert inspect.main([]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:6] == ["kernel", "target", "C×h×w", "dtype", "layout", "registers"]
    assert len(rows) == len(inspect.TARGETS)
    assert rows[0].split()[5:7] == ["40", "0"]
    assert rows[0].endswith("8 of 128 bits, 1 of 32 bits")


def test_refuses_interpreted_kernels_in_one_sentence():
    done = compiler("-m", "kernels.inspect", TRITON_INTERPRET="1")
    assert done.returncode == 1
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("TRITON_INTERPRET is set")


def test_refuses_a_target_it_cannot_read():
    done = compiler("-m", "kernels.inspect", "--target", "hopper")
    assert done.returncode == 2
    assert "'hopper' is not a target; write it like 'sm_90'." in done.stderr
