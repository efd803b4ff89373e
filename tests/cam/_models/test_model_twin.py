"""A second model over the same parameters, for another thread."""

import threading

import torch
from torch import nn

import cam


def test_a_twin_answers_while_the_model_is_in_use(bundled, batch):
    twin = bundled.twin()
    done = threading.Event()

    def explain():
        cam.attribute(twin, batch, "gradcam")
        done.set()

    with bundled.lock:
        threading.Thread(target=explain, daemon=True).start()
        assert done.wait(60)


def test_a_twin_takes_no_memory_for_parameters_and_gives_the_same(bundled, batch):
    twin = bundled.twin()
    mine = {tensor.data_ptr() for tensor in twin.module.state_dict().values()}
    assert mine == {tensor.data_ptr() for tensor in bundled.module.state_dict().values()}
    first, second = (
        cam.attribute(model, batch, "layercam")["layercam"] for model in (bundled, twin)
    )
    assert torch.equal(first.raw, second.raw)
    assert (twin.name, twin.labels, twin.layers) == (bundled.name, bundled.labels, bundled.layers)


def test_hooks_of_one_are_not_seen_by_the_other():
    model = cam.Model(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    twin = model.twin()
    twin.module[0].register_forward_hook(lambda *_: None)
    assert not model.module[0]._forward_hooks and twin.module[0].weight is model.module[0].weight
