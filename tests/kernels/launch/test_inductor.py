"""Test the kernels as Inductor writes them, compiled for a Hopper."""

import json
import os
import subprocess
import sys

import pytest

# In a separate process, because interpreted kernels cannot be compiled. Fake tensors claim to be on
# a GPU, whose properties and driver are stated here; the code is Inductor's own, and so is the type
# that it gives each argument. Its kernels are then compiled as they stand.
PROGRAM = """
import json, re, sys, tempfile
from pathlib import Path
from types import SimpleNamespace
import torch, triton

hopper = SimpleNamespace(
    major=9, minor=0, multi_processor_count=132, regs_per_multiprocessor=65536, warp_size=32,
    max_threads_per_multi_processor=2048, max_threads_per_block=1024, total_memory=80 << 30,
    shared_memory_per_block_optin=232448, L2_cache_size=50 << 20,
)
torch.cuda.get_device_properties = lambda device=None: hopper
torch.cuda.get_device_capability = lambda device=None: (9, 0)

from torch._dynamo.device_interface import CudaInterface
from torch._inductor import scheduler
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime import triton_heuristics
from torch._subclasses import FakeTensorMode
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
import kernels

target = GPUTarget("cuda", 90, 32)
CudaInterface.Worker.get_device_properties = staticmethod(lambda device=None: hopper)
scheduler.has_triton = lambda: True
torch._inductor.config.joint_graph_constant_folding = False  # it would make zeros on the GPU
triton.runtime.driver.set_active(SimpleNamespace(get_current_target=lambda: target))

class Written(Exception):
    pass

texts = []
generate = GraphLowering.codegen

def keep(graph):
    texts.append(generate(graph)[0].value)
    raise Written

GraphLowering.codegen = keep

def user_autotune(*, configs, triton_meta, **_):
    return lambda function: (function, triton_meta, configs[0])

triton_heuristics.user_autotune = user_autotune

def ptx(source):
    # Triton reads a function's text from its file.
    path = Path(tempfile.mkdtemp()) / "written.py"
    path.write_text(source)
    names = {"__file__": str(path), "__name__": "written"}
    exec(compile(source, str(path), "exec"), names)
    name = re.findall(r"def (\\w+)\\(", source)[0]
    function, meta, config = names[name]
    values = meta["configs"][0]
    options = {"num_warps": config["num_warps"]} if "num_warps" in config else {}
    built = triton.compile(
        ASTSource(function, meta["signature"], meta["constants"], values), target=target,
        options=options,
    )
    # An argument is loaded and rounded, and all that follows is float32.
    rounds = re.compile(r"\\.param \\.f64|cvt\\.rn\\.f32\\.f64")
    doubles = [line for line in built.asm["ptx"].splitlines() if "f64" in line]
    return {"kernel": name, "types": sorted(set(meta["signature"].values())),
            "f64": [line for line in doubles if not rounds.search(line)]}

def empty(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="cuda:0")

byte, integer = torch.uint8, torch.int32
pictures = lambda: (empty(2, 56, 56, 3, dtype=byte), empty(2, 7, 7))
calls = {
    "overlay": (kernels.overlay, pictures, {}),
    "signed overlay": (kernels.overlay, pictures, {"signed": True, "alpha": 1.0}),
    "percentile": (kernels.gradient_map, lambda: (empty(2, 3, 56, 56),),
                   {"normalise": True, "percentile": 99.0}),
    "masks": (kernels.masked_batch, lambda: (empty(3, 56, 56), empty(8, 7, 7)), {"baseline": 0.5}),
    "stretched masks": (kernels.masked_batch, lambda: (empty(3, 56, 56), empty(8, 7, 7)),
                        {"stretch": True}),
    "regions": (kernels.region_batch,
                lambda: (empty(3, 56, 56), empty(56, 56, dtype=integer), empty(8, 20)), {}),
    "ranks": (kernels.ranked_batch,
              lambda: (empty(3, 56, 56), empty(56, 56, dtype=integer), empty(8, dtype=integer)),
              {"baseline": 0.25}),
    "planes": (kernels.fused_cam, lambda: (empty(2, 64, 7, 7), empty(2, 64, 7, 7)),
               {"rules": kernels.RULES}),
    "large planes": (kernels.fused_cam, lambda: (empty(2, 64, 56, 56), empty(2, 64, 56, 56)),
                     {"rules": kernels.RULES}),
}
results = {}
for case, (function, tensors, options) in calls.items():
    texts.clear()
    with FakeTensorMode():
        try:
            torch.compile(lambda *a: function(*a, **options), fullgraph=True)(*tensors())
        except Exception as error:
            assert "Written" in str(error), error
    torch._dynamo.reset()
    sources = re.findall(r"async_compile\\.triton\\('\\w+', '''(.*?)'''", texts[0], re.S)
    results[case] = [ptx(source) for source in sources if "user_autotune" in source]
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def compiled():
    environment = {
        name: text
        for name, text in os.environ.items()
        if name not in ("TRITON_INTERPRET", "CAM_KERNELS")
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_inductor_writes_compiles_without_arithmetic_in_float64(compiled):
    kernels = [kernel for launches in compiled.values() for kernel in launches]
    assert {kernel["kernel"] for kernel in kernels} >= {
        "overlay_kernel",
        "gradient_map_kernel",
        "masked_batch_kernel",
        "mask_range_kernel",
        "label_batch_kernel",
        "plane_cam_kernel",
        "walk_cam_kernel",
    }
    assert [kernel for kernel in kernels if kernel["f64"]] == []
    # Inductor does pass Python's floats as float64: else this would prove nothing.
    doubles = {kernel["kernel"] for kernel in kernels if "fp64" in kernel["types"]}
    assert {"overlay_kernel", "gradient_map_kernel", "mask_range_kernel"} <= doubles
