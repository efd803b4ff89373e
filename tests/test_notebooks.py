"""The notebooks of examples/ run, and say what is true."""

import ast

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.checkout import ROOT

FOLDER = ROOT / "examples"
PATIENCE = 600


def execute(name: str, folder) -> list[str]:
    """Return what each cell of code writes, as plain text."""
    notebook = nbformat.read(FOLDER / name, 4)
    client = NotebookClient(
        notebook,
        timeout=PATIENCE,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],
    )
    client.execute()
    return [
        "".join(
            str(output.get("text") or output.get("data", {}).get("text/plain", ""))
            for output in cell.outputs
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.fixture(autouse=True)
def checkout(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_nothing_that_was_computed_is_stored(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs") and not cell.get("execution_count")


@pytest.mark.timeout(PATIENCE)
def test_the_first_explanation(tmp_path):
    written = execute("first_explanation.ipynb", tmp_path)
    assert "Egyptian cat" in written[1] and "tabby" in written[1]
    assert "tiger cat, not Egyptian cat" in written[3]
    assert len(ast.literal_eval(written[5])) == 6
    assert "MapViewer" in written[6]


@pytest.mark.timeout(PATIENCE)
def test_the_evidence_of_a_network_that_was_trained_lies_where_it_must(tmp_path):
    written = execute("own_model.ipynb", tmp_path)
    accuracy, share = float(written[2]), float(written[3])
    assert accuracy > 0.95 and share > 0.9


@pytest.mark.slow
@pytest.mark.timeout(3 * PATIENCE)
def test_which_method_to_trust(tmp_path):
    written = execute("which_method_to_trust.ipynb", tmp_path)
    agreement = {
        line.split()[0]: float(line.split()[1])
        for line in written[1].splitlines()
        if len(line.split()) == 2 and line.split()[0] != "dtype:"
    }
    # Known pixel by pixel: a random map agrees by chance, the product with the input best.
    assert abs(agreement["randomcam"]) < 0.3 < agreement["layercam"]
    assert max(agreement, key=agreement.__getitem__) == "input_x_gradient"
    likeness = {line.split()[0]: line.split()[1:] for line in written[2].splitlines() if line}
    # Guided backpropagation hardly looks at what was learned (Adebayo et al. 2018).
    assert float(likeness["guided_backprop"][1]) > 0.9 > float(likeness["gradcam"][1])
