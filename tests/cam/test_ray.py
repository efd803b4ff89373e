"""The engine on Ray: the very scores of the local one, whatever dies in between."""

import os
import pickle
import signal
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

import cam
from cam.evaluate import ray_engine
from tests.cam.stand_in import Drop, Inside, Metric, Scores, network

pytest.importorskip("ray")
import ray

ROOT = Path(cam.__file__).parents[1]
METHODS = ("gradcam", "saliency")


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
    """It kills the process that measures the first image, as often as a file has letters left."""

    def __init__(self, lives: Path) -> None:
        super().__init__("deadly", parameters={})
        object.__setattr__(self, "lives", lives)

    def measure(self, model, batch, heatmap, targets, masks=None, **_) -> Scores:
        left = self.lives.read_text() if self.lives.exists() else ""
        if left:
            self.lives.write_text(left[1:])
            os.kill(os.getpid(), signal.SIGKILL)
        return Scores(heatmap.mean((1, 2)), (None,) * len(batch))


def evaluate(out: Path, engine: str = "ray", **options: object) -> cam.Run:
    options = {"methods": METHODS, "metrics": [Inside(), Drop()], "shard_size": 4} | options
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
    told = []
    run = evaluate(tmp_path / "run", progress=told.append)
    assert content(run) == content(local)
    assert len(content(run)) == 4
    assert run.scores().equals(local.scores())
    assert run.config == local.config
    assert sorted(one.done for one in told) == [one.done for one in told]
    assert (told[0].done, told[-1].done, told[-1].seconds_left) == (0, 10, 0)
    assert run.costs()["images"].tolist() == local.costs()["images"].tolist()


@pytest.mark.slow
def test_one_engine_goes_on_with_the_others_run(tmp_path, local):
    for first, second in (("ray", "local"), ("local", "ray")):
        with pytest.raises(cam.Cancelled, match="of 10 images"):
            evaluate(tmp_path / first, first, progress=lambda one: one.done == 0)
        partial = cam.Run.open(tmp_path / first)
        assert 0 < partial.done < 10
        assert not list(partial.path.rglob(".writing-*"))
        assert content(evaluate(tmp_path / first, second)) == content(local)


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
    lives.write_text("x" * 100)
    with pytest.raises(cam.RunError, match="a worker died 4 times over the same shard"):
        evaluate(tmp_path / "run", metrics=[Deadly(lives)])
    assert len(lives.read_text()) > 50


def test_what_determines_the_scores_must_be_the_same_there(tmp_path, monkeypatch):
    from cam.evaluate import plan

    monkeypatch.setattr(plan, "versions", lambda: {"torch": "1.0"})
    with pytest.raises(cam.RunError, match=r"the same scores as this process: versions\.") as told:
        evaluate(tmp_path / "run")
    assert "\n" not in str(told.value)


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
    truth, run = (evaluate(tmp_path / one, one, **options) for one in ("local", "ray"))
    assert content(run) == content(truth)
    assert run.problems().equals(truth.problems())
    log = (run.path / "log.txt").read_text()
    assert "target 5000 is out of range" in log


@pytest.mark.slow
def test_layers_given_as_modules(tmp_path):
    model = network()
    layers = model.module[1]
    truth, run = (
        evaluate(tmp_path / one, one, model=model, layers=layers) for one in ("local", "ray")
    )
    assert content(run) == content(truth)


def test_one_processor_is_left_for_reading(monkeypatch):
    def pool(threads, shards=1000, device="cpu", **there):
        monkeypatch.setattr(ray, "cluster_resources", lambda: there)
        monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": there}])
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        found = ray_engine._pool(shards, torch.device(device))
        assert found.workers * found.processors < there["CPU"]
        return found.workers, found.processors, found.gpus

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
    monkeypatch.setattr(ray_engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(cam.InputError, match=r"pip install -r requirements-ray\.txt"):
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
        settings = ray_engine._settings()
        matmul.fp32_precision, convolution.fp32_precision = "ieee", "tf32"
        ray_engine._adopt(settings, torch.get_num_threads())
        assert (matmul.fp32_precision, convolution.fp32_precision) == ("tf32", "ieee")
    finally:
        matmul.fp32_precision, convolution.fp32_precision = before


def test_workers_fit_on_the_machines(monkeypatch):
    """Three machines of two processors, called with three threads: no worker asks for three."""
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}] * 3
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 6.0})
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    pool = ray_engine._pool(100, torch.device("cpu"))
    assert (pool.processors, pool.workers, pool.threads) == (2, 2, 3)
