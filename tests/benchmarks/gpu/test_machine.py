"""Time a GPU whose parts are stand-ins: the order of calls counts."""

import inspect
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch._C._autograd import DeviceType

from benchmarks.gpu import machine
from benchmarks.gpu.machine import COPIES, Cuda, Rehearsal


@pytest.fixture
def log(monkeypatch):
    """Every call to the GPU, in order."""
    lines = []
    clock = iter(range(10**6))

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = next(clock)
            lines.append("event")

        def elapsed_time(self, other):
            return 0.001 * (other.at - self.at)

    class Stream:
        def wait_stream(self, other):
            lines.append("wait")

    class Graph:
        def replay(self):
            lines.append("replay")

    main, current = Stream(), []

    @contextmanager
    def stream(entered):
        before = list(current)
        current.append(entered)
        try:
            yield
        finally:
            current[:] = before

    @contextmanager
    def graph(_graph, stream):
        assert stream is not main
        lines.append("capture")
        yield
        lines.append("captured")

    properties = SimpleNamespace(
        name="GPU", L2_cache_size=1, major=9, minor=0, multi_processor_count=132, total_memory=1
    )
    played = {
        "Event": Event,
        "Stream": Stream,
        "CUDAGraph": Graph,
        "graph": graph,
        "stream": stream,
        "current_stream": lambda: current[-1] if current else main,
        "synchronize": lambda: lines.append("synchronise"),
        "_sleep": lambda _cycles: lines.append("spin"),
        "get_device_properties": lambda: properties,
    }
    for name, part in played.items():
        assert hasattr(torch.cuda, name)
        monkeypatch.setattr(torch.cuda, name, part)
    monkeypatch.setattr(machine, "MIB", 16)
    monkeypatch.setattr(Cuda, "device", "cpu")
    return lines


def test_the_device_is_timed_behind_emptied_caches_with_the_host_ahead(log, monkeypatch):
    monkeypatch.setattr(Cuda, "_empty_caches", lambda _self: log.append("empty"))
    sample = Cuda().device_time(lambda: log.append("work"), 0.0)
    round_ = ["empty", "spin", "event", "work", "event"]
    assert log == ["work"] * 3 + ["synchronise"] + [*round_, "synchronise"] + round_ * 3 + [
        "synchronise"
    ]
    # One tick of the clock between the two events, in milliseconds as CUDA gives them.
    assert sample.median == pytest.approx(1.0)
    assert sample.runs == 3


def test_a_call_is_timed_until_its_result_is_there(log):
    Cuda().call_time(lambda: log.append("work"), 0.0)
    assert log[4:] == ["work", "synchronise"] * 4


def test_a_graph_is_warmed_up_and_recorded_on_one_side_stream(log):
    recorded = Cuda().capture(lambda: log.append("work") or "result")
    assert log == [
        *("wait", "work", "work", "work", "wait"),
        *("capture", "work", "captured", "replay", "synchronise"),
    ]
    assert recorded.result == "result"
    recorded.replay()
    assert log[-1] == "replay"


def test_a_recording_that_fails_leaves_the_stream_as_it_was(log, monkeypatch):
    @contextmanager
    def graph(_graph, stream):
        torch.cuda.stream(stream).__enter__()  # as torch's, which is not left after an error
        yield
        raise AssertionError("not reached")

    def fails():
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError("not permitted when stream is capturing")

    main = torch.cuda.current_stream()
    monkeypatch.setattr(torch.cuda, "graph", graph)
    capturing = iter([False] * 3 + [True])
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: next(capturing))
    with pytest.raises(RuntimeError, match="not permitted"):
        Cuda().capture(fails)
    assert torch.cuda.current_stream() is main


def test_a_graph_of_many_calls_gives_the_time_of_one(log):
    sample = Cuda().graph_time(lambda: log.append("work"), 0.0)
    assert log.count("work") == 3 + COPIES
    assert log.count("capture") == 1
    assert sample.median == pytest.approx(1.0 / COPIES)


def test_memory_is_read_to_empty_the_caches(log):
    gpu = Cuda()
    assert gpu._other.nbytes == 256 * machine.MIB
    gpu._empty_caches()


def test_what_torch_would_be_asked_for_exists():
    for name in ("L2_cache_size", "multi_processor_count", "total_memory", "major", "minor"):
        assert hasattr(torch._C._CudaDeviceProperties, name)
    assert inspect.signature(torch.cuda.get_device_properties).bind()
    assert inspect.signature(torch.cuda.graph.__init__).bind(None, None, stream=None)
    assert DeviceType.CUDA
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        torch.ones(2).add_(1)
    assert [event.device_type for event in profile.events()]


def test_both_machines_answer_the_same_questions():
    def public(kind):
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(Cuda) == public(Rehearsal)


def test_both_machines_tell_the_same_facts(log):
    assert set(Cuda().facts()) == set(Rehearsal().facts())


def test_a_rehearsed_replay_writes_into_the_same_memory():
    numbers = iter([1.0, 2.0, 3.0])
    replay = Rehearsal().capture(lambda: torch.tensor([next(numbers)]))
    result = replay.result
    replay.replay()
    assert result.tolist() == [2.0]
