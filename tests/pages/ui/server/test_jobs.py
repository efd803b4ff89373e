"""Test work in the background: shared, cancelled, given up."""

import gc
import os
import re
import sys
import threading
import time
import weakref
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

import cam
from cam.pages.ui.server import jobs


@pytest.fixture
def pool():
    return jobs.Jobs(workers=1, capacity=3)


class Steps:
    """Work that goes on when it is let, and ends when it must."""

    def __init__(self) -> None:
        self.runs = 0
        self.go = threading.Event()
        self.begun = threading.Event()

    def __call__(self, tell):
        self.runs += 1
        self.begun.set()
        for step in range(1000):
            if not tell(step / 1000, f"step {step}"):
                raise cam.Cancelled("stopped")
            if self.go.wait(0.01):
                return f"result {self.runs}"
        raise AssertionError("nobody stopped it")


def test_two_visitors_share_a_job_and_its_result(pool):
    work = Steps()
    first = pool.ask("a", work, "one")
    assert pool.ask("a", work, "two") is first
    work.go.set()
    assert first.done.wait(10)
    assert first.result == "result 1" and pool.ask("a", work, "three").result == "result 1"


def test_the_last_to_leave_stops_it(pool):
    work = Steps()
    job = pool.ask("a", work, "one")
    pool.ask("a", work, "two")
    assert work.begun.wait(10)
    job.leave("one")
    assert not job.done.wait(0.1)
    job.leave("two")
    assert job.done.wait(10) and job.cancelled
    work.go.set()
    again = pool.ask("a", work, "one")
    assert again is not job and again.done.wait(10) and again.result == "result 2"


def test_what_nobody_asks_for_is_given_up_unless_it_lasts(pool, monkeypatch):
    monkeypatch.setattr(jobs, "PATIENCE_SECONDS", 0.05)
    work = Steps()
    assert pool.ask("a", work, "one").done.wait(10)
    assert pool.find("a").cancelled
    lasting = Steps()
    job = pool.ask("b", lasting, "one", lasting=True)
    assert not job.done.wait(0.3)
    job.leave("one")
    assert job.done.wait(10) and job.cancelled


def test_one_that_waits_never_starts_when_it_is_cancelled(pool):
    first, second = Steps(), Steps()
    pool.ask("a", first, "one")
    waiting = pool.ask("b", second, "two")
    assert first.begun.wait(10) and jobs.describe("It", waiting).endswith(
        "other work on this server"
    )
    waiting.leave("two")
    first.go.set()
    assert waiting.done.wait(10) and waiting.cancelled and second.runs == 0


def test_few_results_are_kept(pool):
    for number in range(6):
        assert pool.ask(number, lambda _tell: 1, "one").done.wait(10)
    assert [number for number in range(6) if pool.find(number)] == [3, 4, 5]


def test_time_left_and_what_is_told(pool):
    job = jobs.Job(lambda _tell: None, lasting=False)
    assert job.seconds_left is None
    job.begun = time.monotonic() - 10
    job.tell(0.25, "image 5 of 20")
    assert job.seconds_left == pytest.approx(30, rel=0.01)
    assert jobs.describe("Score-CAM", job) == "Score-CAM: 25% · image 5 of 20 · 30 s left"


def test_what_comes_before_the_work_tells_no_speed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=lambda: now[0]))
    job = jobs.Job(lambda _tell: None, lasting=False)
    job.begun = 0.0
    now[0] = 100.0
    job.tell(0, "importing")
    assert job.seconds_left is None
    now[0] = 110.0
    job.tell(0.5)
    assert job.seconds_left == 10


def test_a_finished_job_lets_go_of_what_it_was_made_from(pool):
    film = Steps()
    film.go.set()
    reference = weakref.ref(film)
    assert pool.ask("a", film, "one").done.wait(10)
    del film
    gc.collect()
    assert reference() is None and pool.find("a").result == "result 1"


def script():
    import streamlit as st

    import cam
    from cam.pages.ui.server import jobs

    work = st.session_state["work"]
    try:
        result = jobs.wait_for("key-of-test", "Counting", work)
    except cam.CamError as error:
        st.error(str(error))
    else:
        st.markdown(f"found: {result}")


def test_on_a_page_cancel_and_start_again():
    jobs.get_shared_jobs.clear()
    work = Steps()
    app = AppTest.from_function(script, default_timeout=30)
    app.session_state["work"] = work
    app.run()
    assert app.markdown[0].value == "found: None"
    app.button[0].click().run()
    assert app.markdown[0].value == "Counting: cancelled."
    assert jobs.get_shared_jobs().find("key-of-test").done.wait(10)
    app.run()
    assert work.runs == 1
    work.go.set()
    app.button[0].click().run()
    assert app.markdown[0].value == "found: result 2"
    assert not app.exception


def test_on_a_page_an_error_is_told_and_not_kept():
    jobs.get_shared_jobs.clear()

    def failing(_tell):
        raise cam.InputError("the input is odd")

    app = AppTest.from_function(script, default_timeout=30)
    app.session_state["work"] = failing
    app.run()
    assert app.error[0].value == "the input is odd"
    assert jobs.get_shared_jobs().find("key-of-test") is None


def test_on_a_page_a_bug_is_a_sentence_and_the_log_has_the_rest(caplog):
    jobs.get_shared_jobs.clear()
    app = AppTest.from_function(script, default_timeout=30)
    app.session_state["work"] = lambda _tell: 1 / 0
    app.run()
    assert not app.exception and "the server's log says how" in app.error[0].value
    assert "ZeroDivisionError" in caplog.text and "Counting failed" in caplog.text
    # The visitor can say which of the log's errors was theirs.
    number = re.search(r"number ([0-9a-f]{8})", app.error[0].value)[1]
    assert f"error {number}: Counting failed" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has a priority for each thread")
def test_jobs_that_yield_leave_the_cores_to_the_pages():
    def read_niceness(_tell=None) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def read_with_helper(_tell) -> tuple[int, int]:
        """Read it in the job and in a thread that it starts, as torch starts its own."""
        helper: list[int] = []
        thread = threading.Thread(target=lambda: helper.append(read_niceness()))
        thread.start()
        thread.join()
        return read_niceness(), helper[0]

    before = read_niceness()
    yielding = jobs.Jobs(workers=1, yields=True).ask("one", read_with_helper, "ann")
    plain = jobs.Jobs(workers=1).ask("two", read_with_helper, "ann")
    assert yielding.done.wait(20) and plain.done.wait(20)
    assert yielding.result == (before + jobs.NICENESS,) * 2
    assert plain.result == (before,) * 2
    assert read_niceness() == before
