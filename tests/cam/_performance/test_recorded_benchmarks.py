"""Read recorded results with their origin."""

import json

from cam._performance.recorded_benchmarks import recordings


def test_what_a_file_says_and_does_not_say(tmp_path):
    about = {
        "device": "NVIDIA X",
        "date": "2026-01-02",
        "command": "python -m it",
        "rehearsal": False,
    }
    (tmp_path / "nvidia-x.json").write_text(json.dumps(about))
    (tmp_path / "rehearsal.json").write_text(json.dumps(about | {"rehearsal": True}))
    (tmp_path / "fidelity-cpu.json").write_text(json.dumps({"machine": "CPU, torch 2"}))
    (tmp_path / "methods-cpu.md").write_text("CPU, torch 2.1\n\nmeasured on 24 November 2026;\n")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "README.md").write_text("torch 2")
    files = {file.name: file for file in recordings(tmp_path)}
    assert set(files) == {"nvidia-x", "fidelity-cpu", "methods-cpu", "broken"}
    gpu = files["nvidia-x"]
    assert (gpu.device, gpu.date, gpu.command) == ("NVIDIA X", "2026-01-02", "python -m it")
    assert files["fidelity-cpu"].device == "CPU, torch 2" and files["fidelity-cpu"].date is None
    assert files["methods-cpu"].date == "24 November 2026"
    assert files["methods-cpu"].device == "CPU, torch 2.1"
    assert gpu.title == "Kernels, rivals and goals on NVIDIA X"
    assert files["methods-cpu"].title.startswith("What methods cost") and gpu.name == "nvidia-x"
    assert (
        files["broken"].title == "broken"
        and files["broken"].device is None
        and files["broken"].command is None
    )


def test_no_folder_no_results(tmp_path):
    assert recordings(tmp_path / "none") == []
