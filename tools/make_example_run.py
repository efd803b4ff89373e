"""Make the finished run that comes with the package: ``python -m tools.make_example_run``."""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import cam
from cam._runs.results.example import FOLDER

NETWORK, IMAGES = "patch", 64
METHODS = (
    *("gradcam", "layercam", "saliency"),
    *("input_x_gradient", "integrated_gradients", "occlusion"),
)
METRICS = ("truth_correlation", "truth_mass", "deletion", "insertion")
MOST_BYTES = 1_500_000


def make(folder: Path, images: int = IMAGES) -> cam.Run:
    """Measure into an empty folder, about half a minute for all images on two cores."""
    data = cam.dataset("known", network=NETWORK, size=images)
    model = cam.load_model(f"known/{NETWORK}")
    return cam.evaluate(model, data, METHODS, METRICS, folder, baselines="centre", heatmaps=64)


def main() -> None:
    """Replace the run in the package; nothing of it names the machine."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "run")
        make(path)
        facts = json.loads((path / "run.json").read_text(encoding="utf-8"))
        for name in ("host", "system", "threads"):
            del facts["notes"][name]
        shutil.rmtree(FOLDER, ignore_errors=True)
        shutil.copytree(path / "shards", FOLDER / "shards")
        text = json.dumps(facts, indent=2, ensure_ascii=False)
        (FOLDER / "run.json").write_text(f"{text}\n", encoding="utf-8")
    size = sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file())
    if size > MOST_BYTES:
        raise SystemExit(f"the run has {size:,} bytes, and at most {MOST_BYTES:,} are packed")
    sys.stdout.write(f"{FOLDER}: {size:,} bytes\n")


if __name__ == "__main__":
    main()
