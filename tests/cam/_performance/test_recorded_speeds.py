"""Write speeds and read them back with every round, also a GPU's."""

import json
from dataclasses import asdict

import pytest

from benchmarks.gpu.end_to_end import FP32, PRECISIONS, speed_row
from benchmarks.gpu.plan import Record
from benchmarks.gpu.report import Report, write
from cam._performance import speed
from cam._performance.recorded_speeds import RESULTS, encode, read_recordings
from cam._performance.timing import Timing

HALF = speed.Speed(8, 1, Timing((0.5, 0.25)))
RACE = speed.Race({speed.OURS: HALF}, {speed.OURS: HALF}, ("torchcam",), {"captum": "no"})
TOGETHER = speed.Together({"gradcam": Timing((1.0,))}, {1: Timing((2.0,)), 4: Timing((3.0,))})
FIDELITY = speed.Fidelity("gradcam", "bf16", HALF, 0.75, 0.5)
ABOUT = {"machine": "CPU, torch 2", "command": "it", "model": "net", "load": [2.5, 2]}


def write_file(folder, name, **about):
    content = encode({8: RACE}, {8: {speed.OURS: HALF}}, TOGETHER, [FIDELITY])
    (folder / f"{name}.json").write_text(json.dumps(ABOUT | about | content))


def test_what_was_written_is_read_with_every_round(tmp_path):
    write_file(tmp_path, "speed-cpu", device="CPU, 2 threads", date="2026-01-02")
    [recording] = read_recordings(tmp_path)
    assert recording.races == {8: RACE} and recording.sizes == {8: {speed.OURS: HALF}}
    assert recording.together == TOGETHER
    assert [asdict(row) for row in recording.precisions] == [asdict(FIDELITY)]
    assert (recording.device, recording.load) == ("CPU, 2 threads", (2.5, 2))
    assert not recording.is_gpu


def test_gpus_come_first_and_then_the_newest(tmp_path):
    write_file(tmp_path, "speed-cpu", device="CPU, 2 threads", date="2026-01-03")
    write_file(tmp_path, "speed-cpu-old", device="CPU, 1 thread", date="2026-01-01")
    write_file(tmp_path, "speed-nvidia-x", device="NVIDIA X", date="2025-01-01")
    write_file(tmp_path, "speed-y", device="NVIDIA Y", date="2026-01-01", rehearsal=True)
    (tmp_path / "speed-broken.json").write_text("{")
    (tmp_path / "speed-list.json").write_text("[]")
    (tmp_path / "speed-less.json").write_text('{"device": "CPU"}')
    names = [recording.device for recording in read_recordings(tmp_path)]
    assert names == ["NVIDIA X", "CPU, 2 threads", "CPU, 1 thread"]
    assert read_recordings(tmp_path / "none") == []


@pytest.mark.parametrize("rehearsal", [False, True])
def test_a_gpus_check_gives_bars_by_itself(tmp_path, rehearsal):
    times = {
        "inference, eager": Timing((0.02, 0.04)),
        "gradcam, eager": Timing((0.04, 0.05)),
    }
    record = Record("end_to_end", "Grad-CAM beside plain inference")
    for precision in (FP32, PRECISIONS["bf16"]):
        for layout in ("channels-last", "contiguous"):
            record.rows.append(speed_row(precision, layout, "eager", 64, times))
    about = {
        "device": "NVIDIA X", "date": "2026-01-02T03:04:05+00:00", "command": "python it",
        "commit": "", "torch": "2", "triton": "3", "cuda": "13", "driver": "1", "python": "3",
        "capability": "9.0", "l2_bytes": 1,
    }  # fmt: skip
    write(Report(rehearsal, True, about, [], [record]), tmp_path)
    recordings = read_recordings(tmp_path)
    if rehearsal:
        assert not recordings
        return
    [recording] = recordings
    assert (recording.device, recording.date, recording.is_gpu) == ("NVIDIA X", "2026-01-02", True)
    [race] = recording.races.values()
    assert race.speeds[speed.OURS].timing.seconds == pytest.approx((0.04, 0.05))
    assert race.speeds[speed.OURS].images == 64
    assert race.speeds[speed.OURS].relative_to(race.speeds[speed.INFERENCE]).median == (
        pytest.approx((0.5 + 0.8) / 2)
    )


def test_what_is_recorded_here_is_whole():
    recordings = read_recordings(RESULTS)
    assert recordings, "python -m benchmarks.speed writes one"
    for recording in recordings:
        for race in recording.races.values():
            rounds = {len(timed.timing.seconds) for timed in race.speeds.values()}
            assert len(rounds) == 1 and rounds.pop() >= 9
