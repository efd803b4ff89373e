"""The bench of axioms measures what it says, and writes that."""

import json
import warnings

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion

import cam
from benchmarks import axiom_checks as checks
from benchmarks import axioms
from cam._methods.trust import STATEMENTS, TABLE

CHEAP = ("completeness", "conservation", "linearity", "dummy", "symmetry", "scale", "batch")
DOCUMENT = axioms.DOCUMENT.read_text()


def measured() -> dict[str, axioms.Row]:
    rows: dict[str, axioms.Row] = json.loads(TABLE.read_text())
    return rows


@pytest.mark.parametrize("name", ["input_x_gradient", "hirescam"])
def test_the_tables_are_what_the_code_measures(name):
    row = axioms.measure(cam.method(name), (*CHEAP, "seeds"))
    assert axioms.write_row(name, row) in DOCUMENT.splitlines()
    assert row["axioms"] == measured()[name]["axioms"]


def test_the_document_and_the_pages_table_say_the_same():
    assert axioms.insert(DOCUMENT, axioms.write_tables(measured())) == DOCUMENT
    assert axioms.AXIOMS.keys() == STATEMENTS.keys()
    for name, claims in axioms.CLAIMS.items():
        assert set(claims) <= axioms.AXIOMS.keys() and name in cam.methods()


@pytest.mark.slow
def test_every_method_has_its_row():
    assert measured().keys() == cam.methods().keys()


def test_input_times_gradient_adds_up_to_what_autograd_says():
    """The figure again, without the library: Σ x ∂y/∂x beside y(x) - y(0)."""
    network, pictures = checks.random_network(), checks.pictures()[:2].clone().requires_grad_()
    scores = network(pictures)[:, checks.TARGET]
    (gradient,) = torch.autograd.grad(scores.sum(), pictures)
    added = (pictures * gradient).detach().flatten(1).sum(1).numpy()
    with torch.no_grad():
        blank = network(torch.zeros(2, 3, 32, 32, dtype=torch.float64))[:, checks.TARGET]
    above = (scores - blank).detach().numpy()
    expected = np.max(np.abs(added - above) / np.abs(above))
    assert checks.completeness(cam.method("input_x_gradient")) == pytest.approx(expected, rel=1e-5)


def test_hirescam_conserves_what_the_head_makes_of_the_layer():
    """Behind a mean and a linear layer it is Σ_c w_c mean(A_c), by hand."""
    network, pictures = checks.random_network(), checks.pictures()[:2]
    with torch.no_grad():
        means = network[:7](pictures).mean((2, 3))
        by_hand = means @ network[9].weight[checks.TARGET]
    maps = checks.explain(cam.method("hirescam"), network, pictures, layer=checks.LAYER)
    assert torch.allclose(maps.raw.double().sum((1, 2)), by_hand, rtol=1e-5)
    assert checks.conservation(cam.method("hirescam")) < 1e-5


def test_a_method_that_breaks_an_axiom_is_caught():
    """Those whose failure follows from what they are."""
    # A ReLU of each term comes before the sum.
    assert checks.linearity(cam.method("layercam")) > 0.1
    # Activations alone know nothing of the head, where a unit is not read.
    assert checks.dummy(cam.method("eigencam")) > 0.5
    # A principal component turns with the scale of the channels.
    assert checks.scale(cam.method("eigencam")) > 0.01
    # Other weights each time.
    assert checks.seeds(cam.method("randomcam")) < 0.9


def test_what_is_ignored_lies_inside_of_the_bright_square():
    """A map that is 1 there alone, a cell from the edge, is caught; next to it, it is not."""
    _, batch, _ = checks.open_known("distractor")
    bright = (batch[0, 0] > 0.5).numpy()
    inner = binary_erosion(bright, np.ones((33, 33)), border_value=1)
    assert bright.sum() == 48**2 and inner.sum() >= 16**2

    def figure(mask: np.ndarray) -> float | None:
        signed = torch.from_numpy(mask.astype(np.float32))[None]
        fake = cam.Attribution(
            signed, signed, torch.zeros(1), torch.zeros(1), torch.zeros(1, 2), (), "saliency",
            "sensitivity", cam.Cost(0, 0, 0.0), "fp32",
        )  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checks, "explain_known", lambda method, name: fake)
            return checks.dummy(cam.method("saliency"))

    assert figure(inner) == 1
    assert figure(~inner) == 0


def test_the_random_networks_and_rescaled_ones_compute_the_same_each_time():
    state = torch.get_rng_state()
    first = checks.random_network()(checks.pictures())
    checks.random_network.cache_clear()
    assert torch.equal(first, checks.random_network()(checks.pictures()))
    assert torch.equal(state, torch.get_rng_state())
    for network, layer in checks.rescaled_networks():
        assert torch.allclose(network(checks.pictures()), first, rtol=1e-10)
        assert type(network.get_submodule(layer)) is torch.nn.ReLU


def test_a_method_that_refuses_a_network_has_no_figure():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        row = axioms.measure(cam.method("cam"), ("conservation", "seeds"))
    assert row["axioms"]["seeds"] is None
    assert axioms._try(lambda: checks.agreement(cam.method("cam"), "linear")) is None
