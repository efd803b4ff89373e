"""Compare the engine on Ray with the local one, whatever dies."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

import cam
from cam._methods.base.method_registry import METHODS
from cam._metrics.base.metric_registry import METRICS
from cam._runs.engines.ray import engine as ray_engine
from cam._runs.engines.ray import parcels
from cam._runs.storage.store import locked
from cam.errors import MissingExtraError
from tests.support.checkout import ROOT
from tests.support.stand_in import Drop, Inside, Metric, Scores, network

pytest.importorskip("ray")
import ray

NAMES = ("gradcam", "saliency")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One for all tests, of two processors: one measures, the other reads."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    yield
    ray.shutdown()


class Deadly(Metric):
    """It kills the process that measures a batch, or spares it, as a file's next letter says."""

    def __init__(self, lives: Path) -> None:
        super().__init__("deadly", parameters={})
        object.__setattr__(self, "lives", lives)

    def measure(self, model, batch, attribution, targets, masks=None, **_) -> Scores:
        heatmap = attribution.heatmap
        left = self.lives.read_text() if self.lives.exists() else ""
        if left:
            self.lives.write_text(left[1:])
            if left[0] == "x":
                os.kill(os.getpid(), signal.SIGKILL)
        return Scores(heatmap.mean((1, 2)), (None,) * len(batch))


def evaluate(out: Path, engine: str = "ray", **options: object) -> cam.Run:
    options = {"methods": NAMES, "metrics": [Inside(), Drop()], "shard_size": 4} | options
    data = options.pop("data", None) or cam.dataset("photo-grid", size=10)
    return cam.evaluate(options.pop("model", None) or network(), data, out=out, engine=engine,
                        **options)  # fmt: skip


def content(run: cam.Run) -> dict[str, bytes]:
    """The files that hold what was found; costs are times, and never the same."""
    return {
        path.relative_to(run.path).as_posix(): path.read_bytes()
        for path in sorted(run.path.rglob("*.parquet"))
        if path.stem != "costs"
    }


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> cam.Run:
    return evaluate(tmp_path_factory.mktemp("runs") / "local", "local")


def test_the_files_are_those_of_the_local_engine(tmp_path, local):
    reports = []
    run = evaluate(tmp_path / "run", progress=reports.append)
    assert content(run) == content(local)
    assert len(content(run)) == 5
    assert run.scores().equals(local.scores())
    assert run.config == local.config
    assert sorted(progress.done for progress in reports) == [progress.done for progress in reports]
    assert (reports[0].done, reports[-1].done, reports[-1].seconds_left) == (0, 10, 0)
    assert run.costs()["images"].tolist() == local.costs()["images"].tolist()


@pytest.mark.slow
def test_groups_are_those_of_the_caller(tmp_path):
    data = [(item.image, item.target, item.mask) for item in cam.dataset("photo-grid", size=8)]
    grouped = cam.dataset(data, groups=lambda name: name[-1] in "0123")
    run = evaluate(tmp_path / "run", data=grouped, metrics=[Drop()])
    assert run.groups().tolist() == ["True"] * 4 + ["False"] * 4
    assert set(run.leaderboard()["groups"]) == {2}


@pytest.mark.slow
def test_one_engine_goes_on_with_the_others_run(tmp_path, local):
    for first, second in (("ray", "local"), ("local", "ray")):
        with pytest.raises(cam.Cancelled, match="of 10 images"):
            evaluate(tmp_path / first, first, progress=lambda progress: progress.done == 0)
        partial = cam.Run.open(tmp_path / first)
        assert 0 < partial.done < 10
        assert not list(partial.path.rglob(".writing-*"))
        assert content(evaluate(tmp_path / first, second)) == content(local)


@pytest.mark.slow
def test_a_killed_worker_costs_its_shard_only(tmp_path):
    lives = tmp_path / "lives"
    options = {"metrics": [Deadly(lives), Drop()], "methods": "gradcam"}
    truth = evaluate(tmp_path / "local", "local", **options)
    lives.write_text("x")
    run = evaluate(tmp_path / "run", **options)
    assert lives.read_text() == ""
    assert content(run) == content(truth)
    assert run.leaderboard()["failed"].tolist() == [0, 0]


@pytest.mark.slow
def test_a_shard_that_kills_each_worker_ends_the_run(tmp_path):
    lives = tmp_path / "lives"
    lives.write_text("o" + "x" * 100)
    options = {"methods": "gradcam", "metrics": [Deadly(lives)]}
    with pytest.raises(cam.RunError, match="a worker died 4 times over the same shard"):
        evaluate(tmp_path / "run", **options)
    assert len(lives.read_text()) > 50
    assert cam.Run.open(tmp_path / "run").done == 4
    # Nobody holds the processors that its workers had.
    lives.write_text("")
    begun = time.monotonic()
    assert evaluate(tmp_path / "run", **options).done == 10
    assert time.monotonic() - begun < 60


class Records(Metric):
    """It tells a file which actor unpacks it, an actor being what measures."""

    def __init__(self, path: Path) -> None:
        super().__init__("records")
        object.__setattr__(self, "path", path)

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        with self.path.open("a") as file:
            file.write(f"{ray.get_runtime_context().get_actor_id()}\n")

    def measure(self, model, batch, attribution, targets, masks=None, **_) -> Scores:
        heatmap = attribution.heatmap
        return Scores(heatmap.mean((1, 2)), (None,) * len(batch))


@pytest.mark.slow
def test_those_who_read_are_not_sent_what_measures(tmp_path):
    """Such as a parameter on a GPU, which a machine without one could not unpack."""
    evaluate(tmp_path / "run", methods="gradcam", metrics=[Records(tmp_path / "seen")])
    (actor,) = set((tmp_path / "seen").read_text().split())
    assert actor != "None"


MODULE = r"""
@cam.register_method(
    "own_method", title="Own", family="gradient", kind="sensitivity", reads=cam.sources.Pixels,
    cost="none", rules={"power": cam.parameters.number(above=0)})
def own_method(pixels, *, power=1.0):
    "The image's red, raised.\n\nReferences:\n    Made for a test."
    red = pixels.inputs[:, 0].abs().pow(power) * half()
    return cam.Maps(red, red / red.amax((1, 2), keepdim=True))

@cam.register_metric(
    "own_metric", title="Own", family="complexity", definition="mean", direction=1,
    range=(0, 1), baseline="none")
def own_metric(subject):
    "The mean.\n\nReferences:\n    Made for a test."
    return subject.heatmap.mean((1, 2)) * half()

def half():
    return 0.5
"""


@pytest.fixture
def registered(monkeypatch):
    """A method and a metric from the caller's own program, which no other process can import."""
    for registry in (METHODS, METRICS):
        monkeypatch.setattr(registry, "_entries", registry.all())
    exec(MODULE, {"__name__": "__main__", "cam": cam})


@pytest.mark.slow
def test_a_method_and_a_metric_of_the_callers_own(tmp_path, registered):
    options = {"methods": [cam.method("own_method", power=2.0)], "metrics": ["own_metric"]}
    truth, run = (evaluate(tmp_path / engine, engine, **options) for engine in ("local", "ray"))
    assert truth.scores()["status"].tolist() == ["ok"] * 10
    assert content(run) == content(truth)


@pytest.mark.slow
def test_a_module_that_a_worker_cannot_import_is_told(tmp_path, registered, monkeypatch):
    (tmp_path / "own_module.py").write_text("def own_metric(subject):\n    return subject.heatmap")
    monkeypatch.syspath_prepend(tmp_path)
    info = replace(METRICS["own_metric"], function=import_module("own_module").own_metric)
    monkeypatch.setitem(METRICS._entries, "own_metric", info)
    with pytest.raises(cam.RunError, match=r"a worker failed: ModuleNotFoundError: .*'own_module'"):
        evaluate(tmp_path / "run", metrics=["own_metric"])


class Mortal(nn.Module):
    """The process that loads it ends at once, and a file gets a letter."""

    def __init__(self, loads: Path) -> None:
        super().__init__()
        self.network, self.loads = network().module, loads

    def forward(self, batch):
        return self.network(batch)

    def __setstate__(self, state: dict) -> None:
        with state["loads"].open("a") as file:
            file.write("x")
        os._exit(1)


@pytest.mark.slow
def test_a_model_that_ends_each_process_that_loads_it_ends_the_run(tmp_path):
    model = cam.Model(Mortal(tmp_path / "loads"), layers="network.3", name="mortal")
    with pytest.raises(cam.RunError, match="no worker measured a shard: each of 4 died") as error:
        evaluate(tmp_path / "run", model=model)
    assert "\n" not in str(error.value)
    assert 4 <= len((tmp_path / "loads").read_text()) <= 8


class Stillborn:
    """Its process ends before it has anything to do, as one that cannot import torch does."""

    def __init__(self, *_: object) -> None:
        os._exit(1)

    def __call__(self, batch: dict) -> dict:
        return batch


@pytest.mark.slow
def test_a_worker_that_cannot_begin_is_not_started_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "Worker", Stillborn)
    monkeypatch.setattr(ray_engine, "RESTARTS", 3)
    with pytest.raises(cam.RunError, match="no worker measured a shard: each of 4 died"):
        evaluate(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ctrl_c_is_a_sentence_and_a_second_start_goes_on(tmp_path):
    """The process alone gets the signal, and then its whole group, as a terminal does."""
    data = cam.dataset("photo-grid", size=24)
    metrics = ["sparseness", "insertion"]
    truth = cam.evaluate(
        cam.load_model("efficientnet_lite0"), data, "gradcam", metrics, tmp_path / "local",
        shard_size=1,
    )  # fmt: skip
    out = tmp_path / "run"
    words = [sys.executable, "-m", "cam", "evaluate", "photo-grid", "--data-option", "size=24"]
    words += ["--method", "gradcam", "--metric", "sparseness", "--metric", "insertion"]
    words += ["--shard-size", "1", "--engine", "ray", "--out", str(out)]
    apart = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    # As many as here: another number of threads sums in another order.
    apart |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def start() -> subprocess.Popen:
        return subprocess.Popen(
            words, cwd=ROOT, env=apart, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def done() -> int:
        return cam.Run.open(out).done if (out / "run.json").exists() else 0

    for send, beyond in ((os.kill, 0), (os.killpg, 3)):
        before = done()
        with start() as process:
            while done() <= before + beyond and process.poll() is None:
                time.sleep(0.01)
            stored = done()
            send(process.pid, signal.SIGINT)
            output, errors = process.communicate(timeout=60)
        assert process.returncode == 1, errors
        assert before < stored <= done() < 24
        sentence = f"Error: stopped after {done()} of 24 images; run the same command again"
        assert errors.splitlines()[-1].startswith(sentence)
        assert "Traceback" not in errors and output == ""
        assert f"stopped with {done()} of 24 images done" in (out / "log.txt").read_text()
        assert not list(out.rglob(".writing-*"))
        with locked(out):
            pass
    with start() as process:
        output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert content(cam.Run.open(out)) == content(truth)


@pytest.mark.slow
def test_what_determines_the_scores_must_be_the_same_there(tmp_path, monkeypatch):
    from cam._runs.plan import run_plan

    monkeypatch.setattr(run_plan, "versions", lambda: {"torch": "1.0"})
    with pytest.raises(cam.RunError, match=r"the same scores as this process: versions\.") as error:
        evaluate(tmp_path / "run")
    assert "\n" not in str(error.value)


def test_what_cannot_be_sent_is_told(tmp_path):
    model = network()
    model.module.guard = threading.Lock()
    with pytest.raises(cam.InputError, match="cannot be sent to another process"):
        evaluate(tmp_path / "run", model=model)


@pytest.mark.slow
def test_images_that_fail_are_told_as_by_the_local_engine(tmp_path):
    broken = torch.rand(3, 40, 40)
    broken[0, 3, 3] = torch.nan
    items = [(torch.rand(3, 40, 40), 1), (broken, 1), (torch.rand(3, 60, 60), 5000)]
    options = {"data": items, "metrics": [Drop()], "layers": None}
    truth, run = (evaluate(tmp_path / engine, engine, **options) for engine in ("local", "ray"))
    assert content(run) == content(truth)
    assert run.problems().equals(truth.problems())
    log = (run.path / "log.txt").read_text()
    assert "target 5000 is out of range" in log


@pytest.mark.slow
def test_layers_given_as_modules(tmp_path):
    model = network()
    layers = model.module[1]
    truth, run = (
        evaluate(tmp_path / engine, engine, model=model, layers=layers)
        for engine in ("local", "ray")
    )
    assert content(run) == content(truth)


def test_one_processor_is_left_for_reading(monkeypatch):
    def pool(threads, shards=1000, device="cpu", **there):
        monkeypatch.setattr(ray, "cluster_resources", lambda: there)
        monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": there}])
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        pool = ray_engine._size_pool(shards, torch.device(device))
        assert pool.workers * pool.processors < there["CPU"]
        return pool.workers, pool.processors, pool.gpus

    assert pool(1, CPU=2.0) == (1, 1, 0)
    assert pool(2, CPU=2.0) == (1, 1, 0)
    assert pool(4, CPU=16.0) == (3, 4, 0)
    assert pool(1, CPU=64.0, shards=3) == (3, 1, 0)
    assert pool(8, device="cuda", CPU=64.0, GPU=8.0) == (8, 1, 1)
    assert pool(8, device="cuda", CPU=4.0, GPU=8.0) == (3, 1, 1)
    with pytest.raises(cam.InputError, match="the Ray cluster has none"):
        pool(1, device="cuda", CPU=4.0)
    with pytest.raises(cam.RunError, match="has 1 processors"):
        pool(1, CPU=1.0)


def test_without_ray_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    sentence = r"^the engine 'ray' needs the extra 'ray': pip install .*\[ray\]'$"
    with pytest.raises(MissingExtraError, match=sentence):
        evaluate(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_is_pickled_with_a_lock_of_its_own():
    model = network()
    other = pickle.loads(pickle.dumps(model))
    assert other.lock is not model.lock
    with other.lock:
        pass
    batch = torch.rand(2, 3, 40, 40)
    assert torch.equal(other.predict(batch), model.predict(batch))
    assert (other.name, other.layers) == (model.name, model.layers)
    assert isinstance(other.module, nn.Sequential)


def test_autocast_does_not_reach_other_processes(tmp_path):
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(cam.InputError, match="precision="):
        evaluate(tmp_path / "run")


def test_the_callers_precision_of_sums_is_taken_along():
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision, convolution.fp32_precision
    try:
        matmul.fp32_precision, convolution.fp32_precision = "tf32", "ieee"
        settings = parcels.read_settings()
        matmul.fp32_precision, convolution.fp32_precision = "ieee", "tf32"
        parcels.adopt(settings)
        assert (matmul.fp32_precision, convolution.fp32_precision) == ("tf32", "ieee")
    finally:
        matmul.fp32_precision, convolution.fp32_precision = before


def test_workers_fit_on_the_machines(monkeypatch):
    """Three machines of two processors, called with three threads: no worker asks for three."""
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}] * 3
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 6.0})
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    pool = ray_engine._size_pool(100, torch.device("cpu"))
    assert (pool.processors, pool.workers) == (2, 2)
    assert parcels.read_settings()["threads"] == 3, "as many as the caller has"
