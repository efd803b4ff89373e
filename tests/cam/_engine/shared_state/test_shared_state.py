"""Test that torch's process-wide settings do not cross between threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from cam._engine.shared_state import product_precision
from cam._engine.shared_state.product_precision import hold_product_precision
from cam._engine.shared_state.random_state import seeded

# A thread that waits for another one either comes at once or never.
SECONDS = 60


def read() -> tuple[str, str]:
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision


@pytest.fixture(autouse=True)
def before():
    """Begin with two settings that no call asks for."""
    modules = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    earlier = [module.fp32_precision for module in modules]
    modules[0].fp32_precision, modules[1].fp32_precision = "tf32", "ieee"
    yield
    assert read() == ("tf32", "ieee")
    for module, setting in zip(modules, earlier, strict=True):
        module.fp32_precision = setting


def test_calls_of_one_setting_overlap_and_the_last_puts_back():
    both = threading.Barrier(2, timeout=SECONDS)

    def call():
        with hold_product_precision("ieee"):
            both.wait()
            return read()

    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(call) for _ in range(2)]
        assert [call.result(SECONDS) for call in calls] == [("ieee", "ieee")] * 2


@pytest.mark.parametrize("second", ["tf32", None])
def test_a_call_of_another_setting_waits(second):
    inside, leave, done = (threading.Event() for _ in range(3))
    during = []

    def first():
        with hold_product_precision("ieee"):
            inside.set()
            assert leave.wait(SECONDS)
            during.append(read())

    def other():
        with hold_product_precision(second):
            during.append(read())
        done.set()

    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(first)]
        assert inside.wait(SECONDS)
        calls.append(pool.submit(other))
        assert not done.wait(0.1)
        leave.set()
        for call in calls:
            call.result(SECONDS)
    assert during == [("ieee", "ieee"), ("tf32", "tf32") if second else ("tf32", "ieee")]


def test_calls_within_a_call():
    with hold_product_precision("ieee"):
        with hold_product_precision(None):
            assert read() == ("ieee", "ieee")
        with hold_product_precision("tf32"):
            assert read() == ("tf32", "tf32")
            with hold_product_precision("ieee"):
                assert read() == ("ieee", "ieee")
        assert read() == ("ieee", "ieee")


def test_what_fails_puts_back_too():
    with pytest.raises(ZeroDivisionError), hold_product_precision("ieee"):
        raise ZeroDivisionError


def test_many_threads_each_compute_in_their_own():
    settings = ["ieee", "tf32", None] * 8

    def call(setting):
        with hold_product_precision(setting):
            read_before = {read() for _ in range(200)}
            with hold_product_precision("tf32"):
                within = read()
        return read_before, within

    with ThreadPoolExecutor(8) as pool:
        for setting, (outside, inside) in zip(settings, pool.map(call, settings), strict=True):
            assert outside == {(setting, setting) if setting else ("tf32", "ieee")}
            assert inside == ("tf32", "tf32")


def test_layers_drawn_in_threads_are_those_drawn_alone():
    def draw(seed):
        with seeded(seed):
            return torch.cat([nn.Linear(50, 50).weight.detach().flatten() for _ in range(5)])

    state = torch.get_rng_state()
    alone = [draw(seed) for seed in range(10)]
    with ThreadPoolExecutor(10) as pool:
        together = list(pool.map(draw, range(10)))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, alone, together))


def test_a_call_that_is_interrupted_while_it_waits_leaves_the_queue(monkeypatch):
    turns = product_precision._Turns()
    turns.take("ieee")

    def interrupt(_condition):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(turns._changed, "wait_for", interrupt)
        turns.take("tf32")
    turns.give_back()
    turns.take("tf32")
    assert read() == ("tf32", "tf32")
    turns.give_back()
