"""Compile the kernels for a GPU that is not there, and read off what the compiler made of them.

`python -m kernels.inspect [--target sm_90] [--json]` compiles each kernel in its launch shapes and
prints the registers a thread takes, the local loads and stores (what the compiler spilled), and
how wide the loads from global memory are, as they stand in the machine code.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from kernels.dispatch import interpreter_is_on
from kernels.launch import Launch

TARGETS = ("sm_80", "sm_90")
DTYPES = (torch.float32, torch.bfloat16)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
# One (C, h, w) for each row of the table of launch shapes, so that each is compiled.
CAM_PLANES = ((2048, 1, 1), (2048, 7, 7), (1024, 14, 14), (64, 112, 112))
SALIENCY_PLANES = ((3, 224, 224), (64, 56, 56))

POINTERS = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int32: "*i32",
}


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of one kernel in one launch shape."""

    kernel: str
    target: str
    plane: str  # C×h×w
    dtype: str
    layout: str
    registers: int  # a thread
    spills: int  # local loads and stores in the machine code
    loads: dict[str, int]  # instructions by the bits a thread loads from global memory


def compile_report(targets: Sequence[str] = TARGETS) -> list[Compiled]:
    """Compile every kernel in its launch shapes; no GPU is needed.

    Args:
        targets: NVIDIA architectures, such as "sm_90".

    Returns:
        One entry for each target, kernel, plane, dtype and layout.

    Raises:
        RuntimeError: Triton's interpreter is on, or Triton is not installed.
        ValueError: A target is not written like "sm_90".
    """
    if interpreter_is_on():
        raise RuntimeError(
            "TRITON_INTERPRET is set, and interpreted kernels cannot be compiled; "
            "unset it before Python starts."
        )
    if unknown := [target for target in targets if not re.fullmatch(r"sm_\d{2,3}", target)]:
        raise ValueError(f"{unknown[0]!r} is not a target; write it like 'sm_90'.")
    return [
        _compile(target, plane, dtype, layout, launch)
        for target in targets
        for plane, dtype, layout, launch in _launches()
    ]


def _launches() -> Iterator[tuple[tuple[int, int, int], torch.dtype, str, Launch]]:
    try:
        from kernels import triton_cam, triton_saliency
    except ImportError as error:
        raise RuntimeError("Triton is not installed here, so nothing can be compiled.") from error

    for dtype in DTYPES:
        for layout, memory_format in LAYOUTS.items():
            for plane in CAM_PLANES:
                layer = _without_memory(plane, dtype, memory_format)
                launch, _ = triton_cam.plan(layer, layer, maps=True, signed=True, weights=True)
                yield plane, dtype, layout, launch
            for plane in SALIENCY_PLANES:
                gradient = _without_memory(plane, dtype, memory_format)
                launch, *_ = triton_saliency.plan(gradient, gradient, "max", maps=True)
                yield plane, dtype, layout, launch


def _without_memory(
    plane: tuple[int, int, int], dtype: torch.dtype, memory_format: torch.memory_format
) -> torch.Tensor:
    return torch.empty((2, *plane), dtype=dtype, device="meta", memory_format=memory_format)


def _compile(
    target: str, plane: tuple[int, int, int], dtype: torch.dtype, layout: str, launch: Launch
) -> Compiled:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants, attributes = _specialise(launch)
    compiled = triton.compile(
        ASTSource(launch.kernel, signature, constants, attributes),
        target=GPUTarget("cuda", int(target.removeprefix("sm_")), 32),
        options={"num_warps": launch.num_warps},
    )
    registers, code = _disassemble(compiled.asm["cubin"])
    return Compiled(
        kernel=launch.kernel.__name__,
        target=target,
        plane="×".join(map(str, plane)),
        dtype=str(dtype).removeprefix("torch."),
        layout=layout,
        registers=registers,
        spills=len(re.findall(r"\b(?:LDL|STL)\b", code)),
        loads=_load_widths(code),
    )


def _specialise(launch: Launch) -> tuple[dict[str, str], dict[str, Any], dict[Any, Any]]:
    """Say of each argument what the launcher would: its type, and 1, None or a multiple of 16."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[Any, Any] = {}
    for position, parameter in enumerate(launch.kernel.params):
        value = launch.arguments[parameter.name]
        if parameter.is_constexpr or value is None or (isinstance(value, int) and value == 1):
            signature[parameter.name] = "constexpr"
            constants[parameter.name] = value
            continue
        if isinstance(value, torch.Tensor):
            signature[parameter.name] = POINTERS[value.dtype]
            aligned = True  # torch's allocator gives multiples of 512 bytes
        else:
            signature[parameter.name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            aligned = value % 16 == 0
        if aligned:
            attributes[(position,)] = [["tt.divisibility", 16]]
    return signature, constants, attributes


def _disassemble(cubin: bytes) -> tuple[int, str]:
    """Read the registers a thread takes, and the machine code, with Triton's own tools."""
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.cubin")
        file.write_bytes(cubin)
        usage = _output(knobs.nvidia.cuobjdump.path, "-res-usage", str(file))
        code = _output(knobs.nvidia.nvdisasm.path, "-c", str(file))
    found = re.search(r"\bREG:(\d+)", usage)
    if found is None:
        raise RuntimeError("cuobjdump printed no register count for the compiled kernel.")
    return int(found.group(1)), code


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _load_widths(code: str) -> dict[str, int]:
    """Count the global loads by width; a load without a width in its name moves 32 bits."""
    widths: Counter[int] = Counter()
    for modifiers in re.findall(r"\bLDG((?:\.\w+)*)", code):
        width = re.search(r"\.[US]?(8|16|64|128)\b", modifiers)
        widths[int(width.group(1)) if width else 32] += 1
    return {str(width): widths[width] for width in sorted(widths, reverse=True)}


def _table(report: Sequence[Compiled]) -> str:
    heads = ("kernel", "target", "C×h×w", "dtype", "layout", "registers", "spills", "global loads")
    rows = [heads] + [
        (
            entry.kernel,
            entry.target,
            entry.plane,
            entry.dtype,
            entry.layout,
            str(entry.registers),
            str(entry.spills),
            ", ".join(f"{count} of {width} bits" for width, count in entry.loads.items()),
        )
        for entry in report
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 done, 1 could not compile, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m kernels.inspect", description=__doc__)
    parser.add_argument("--target", action="append", help=f"default: {' and '.join(TARGETS)}")
    parser.add_argument("--json", action="store_true", help="print what a program would read")
    options = parser.parse_args(arguments)
    try:
        report = compile_report(options.target or TARGETS)
    except ValueError as error:
        parser.error(str(error))
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    text = json.dumps([asdict(entry) for entry in report]) if options.json else _table(report)
    sys.stdout.write(f"{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
