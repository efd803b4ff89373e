"""The arithmetic behind the table, by hand."""

import pytest

from benchmarks.gpu.machine import Sample, gb_per_s
from benchmarks.gpu.plan import FULL, Cell, Plane, Record
from benchmarks.gpu.report import Report, goals, markdown, share_of_copy
from benchmarks.result_files import slug


def times(median):
    return {"median_us": median, "low_us": median, "high_us": median, "runs": 3}


def tail(rival="fused", rules=6, device=10.0, **other):
    row = {
        "layer": "ResNet-50 layer4",
        "shape": [64, 2048, 7, 7],
        "dtype": "bf16",
        "layout": "channels-last",
        "rules": rules,
        "rival": rival,
        "input_bytes": 60_000_000,
        "floor_bytes": 60_000_000,
        "device": times(device),
    }
    return row | ({"backend": "triton"} if rival == "fused" else {}) | other


def record(name, rows=(), **facts):
    return {name: Record(name, name, rows=list(rows), facts=facts, seconds=1.0)}


def verdicts(records, l2_bytes=50_000_000):
    return [(goal.verdict, goal.measured) for goal in goals(records, l2_bytes)]


def test_the_least_bytes_are_both_inputs_once_and_the_maps():
    # ResNet-50's last layer: 25.7 MB in bf16 at B = 64.
    cell = Cell(Plane("layer4", 2048, 7), 64, "bf16", "channels-last")
    assert cell.input_bytes == 2 * 64 * 2048 * 49 * 2 == 25_690_112
    assert cell.floor_bytes(6) == 25_690_112 + 64 * 6 * 49 * 4
    assert Cell(Plane("layer4", 2048, 7), 1, "fp32", "contiguous").input_bytes == 802_816


def test_bytes_in_microseconds_are_gigabytes_a_second():
    assert gb_per_s(3_000_000_000, 1_000_000) == 3.0  # 3 GB in a second
    assert gb_per_s(25_690_112, 10) == pytest.approx(2569.0112)
    assert share_of_copy(tail(device=25.0), 3000.0) == pytest.approx(0.8)  # 2,400 of 3,000 GB/s


def test_a_sample_is_median_and_spread():
    sample = Sample.of([50.0, 10.0, 30.0, 20.0, 40.0, 1000.0])
    assert (sample.median, sample.low, sample.high, sample.runs) == (35.0, 20.0, 50.0, 6)


def test_every_goal_is_met_by_what_meets_it():
    rows = [
        tail(device=25.0),
        tail("plain torch", device=200.0),
        tail("compiled torch", device=37.5),
        tail(
            shape=[1, 2048, 7, 7],
            input_bytes=400_000,
            device=4.0,
            graph=times(3.0),
            call=times(30.0),
            launches=1,
        ),
    ]
    network = [
        {"share_of_inference": 0.95, "precision": "bf16", "layout": "contiguous", "road": "graph"}
    ]
    held = verdicts(
        record("tails", rows)
        | record("yardsticks", copy_gb_per_s=3000.0)
        | record("end_to_end", network)
    )
    assert [verdict for verdict, _ in held] == ["met"] * 5
    assert held[0][1].startswith("1 of 1 inputs; median 0.80, lowest 0.80 (ResNet-50 layer4, 64×")
    assert held[1][1].startswith("1 of 1 inputs; median 8.00 ×, lowest 8.00 ×")
    assert held[3][1].startswith("1 of 1 inputs with one launch, 1 at most; medians: 3.0 µs in a")


def test_one_input_that_misses_a_goal_misses_it():
    rows = [
        *(tail(device=20.0), tail("plain torch", device=400.0)),
        *(tail(device=30.0, dtype="fp32"), tail("plain torch", device=200.0, dtype="fp32")),
    ]
    held = verdicts(record("tails", rows) | record("yardsticks", copy_gb_per_s=3000.0))
    assert held[0][0] == "missed"  # 1.00 and 0.67
    assert held[0][1].startswith("1 of 2 inputs; median 0.83, lowest 0.67 (")
    assert held[1][0] == "missed"  # 20 × and 6.67 ×
    assert "fp32" in held[1][1]


def test_a_second_launch_misses_the_goal():
    single = {"graph": times(3.0), "call": times(30.0), "shape": [1, 2048, 7, 7]}
    rows = [tail(launches=1, **single), tail(launches=2, dtype="fp32", **single)]
    verdict, measured = verdicts(record("tails", rows))[3]
    assert verdict == "missed"
    assert measured.startswith("1 of 2 inputs with one launch, 2 at most")


@pytest.mark.parametrize(
    "rows",
    [
        [],
        # The reference in the kernel's place, and a launch count that the profiler did not give.
        [
            tail(backend="reference", launches=None, shape=[1, 2048, 7, 7]),
            tail("plain torch", device=500.0, shape=[1, 2048, 7, 7]),
        ],
        # One rule says nothing of six, and small data nothing of the memory's bandwidth.
        [tail(rules=1, input_bytes=1000), tail("plain torch", rules=1, device=500.0)],
        # Another input's time is no yardstick.
        [tail(input_bytes=1000), tail("plain torch", device=500.0, layout="contiguous")],
    ],
)
def test_what_was_not_measured_is_neither_met_nor_missed(rows):
    held = verdicts(record("tails", rows) | record("yardsticks", copy_gb_per_s=3000.0))
    assert [verdict for verdict, _ in held] == ["not measured"] * 5


def test_without_the_copy_there_is_no_share_of_it():
    assert verdicts(record("tails", [tail(device=1.0)]))[0] == ("not measured", "")


def test_the_table_shows_each_rival_in_its_column():
    rows = [
        tail(device=25.0),
        tail("plain torch", device=200.0),
        tail("compiled torch", device=50.0),
        tail("grad-cam", call=times(123_456.0)),
    ]
    del rows[-1]["device"]
    about = dict.fromkeys(
        ("date", "commit", "command", "torch", "triton", "cuda", "driver", "python", "capability")
    )
    about |= {"device": "NVIDIA H100 80GB HBM3", "l2_bytes": 52_428_800}
    records = record("yardsticks", copy_gb_per_s=3000.0) | record("tails", rows)
    page = markdown(Report(False, True, about, [], list(records.values())))
    assert page.startswith("# NVIDIA H100 80GB HBM3\n")
    assert (
        "| ResNet-50 layer4 | 64 | bf16 | channels-last | 6 | 25.0 | 2400 | 80% | 200.0 | 50.0 | "
        " | 123,456.0 | 8.0 | 2.0 |"
    ) in page


def test_a_device_makes_a_file_name():
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"


def test_an_early_stop_leaves_a_sensible_table():
    cells = FULL.cells()
    # Four batches and three dtypes of five layers in two layouts, and of tokens in one.
    assert len(set(cells)) == len(cells) == 4 * 3 * (5 * 2 + 1)
    # Each layer once before any a second time; and soon every batch, dtype and layout.
    assert {cell.plane for cell in cells[:6]} == set(FULL.planes)
    early = cells[: len(cells) // 2]
    assert {cell.batch for cell in early} == {1, 64, 256}
    assert {cell.dtype for cell in early} == {"fp32", "fp16", "bf16"}
    assert {cell.layout for cell in early} == {"channels-last", "contiguous", "tokens"}
