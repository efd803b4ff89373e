"""Compile a launch for an absent GPU, and read its machine code."""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..launch.launcher_parts import Launch
from .devices import Device
from .executed import Executed, Listing, constants_of, count_call


@dataclass(frozen=True)
class Code:
    """What the compiler made of one launch."""

    registers: int  # a thread
    shared: int  # bytes a program
    spills: int  # instructions that load or store what did not fit in registers
    loads: dict[str, int]  # instructions by the bits that a thread loads from global memory
    stores: dict[str, int]
    # What the warps of a whole call execute between them.
    instructions: int = 0
    shuffles: int = 0  # values that threads of a warp exchange
    barriers: int = 0


def occupancy(device: Device, threads: int, registers: int, shared: int) -> float:
    """Compute the share of a core's threads that fit at once."""
    rounded = -(-max(registers, 1) // device.register_step) * device.register_step
    programs = min(
        device.programs,
        device.threads // threads,
        device.registers // (rounded * threads),
        device.shared // (shared + device.shared_reserved) if shared else device.programs,
    )
    return programs * threads / device.threads


def compiled(launch: Launch, device: Device) -> Code:
    """Compile a launch for a device, with Triton's wheel alone."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants, attributes = _specialise(launch)
    result = triton.compile(
        ASTSource(launch.kernel, signature, constants, attributes),
        target=GPUTarget(device.backend, device.architecture, device.warp),
        options=launch.options(device.backend, device.warp),
    )
    if device.backend == "hip":
        return _read_amd(result.asm["amdgcn"], result.metadata.shared)
    assert isinstance(device.architecture, int)
    threads = launch.threads(device.warp)
    bank = constants_of(launch.arguments, signature, device.architecture, threads)
    return _read_nvidia(
        result.asm["cubin"],
        result.metadata.shared,
        lambda listing: count_call(launch, listing, bank, threads // device.warp),
    )


def _specialise(launch: Launch) -> tuple[dict[str, str], dict[str, Any], dict[Any, Any]]:
    """Describe each argument as Triton's launcher does.

    Its type, and whether it is 1, None or a multiple of 16, as torch's addresses are.
    """
    from triton._C.libtriton import native_specialize_impl
    from triton.backends.compiler import BaseBackend

    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[Any, Any] = {}
    for position, parameter in enumerate(launch.kernel.params):
        name, value = parameter.name, launch.arguments[parameter.name]
        signature[name], key = "constexpr", None
        if not parameter.is_constexpr:
            special = not parameter.do_not_specialize
            signature[name], key = native_specialize_impl(
                BaseBackend, value, False, special, special
            )
        if signature[name] == "constexpr":
            constants[name] = value
        elif key == "D":
            attributes[(position,)] = [["tt.divisibility", 16]]
    return signature, constants, attributes


def _read_nvidia(cubin: bytes, shared: int, count: Callable[[Listing], Executed]) -> Code:
    """Read SASS with the disassembler that Triton's wheel carries."""
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.cubin")
        file.write_bytes(cubin)
        usage = _output(knobs.nvidia.cuobjdump.path, "-res-usage", str(file))
        code = _output(knobs.nvidia.nvdisasm.path, str(file))
    executed = count(Listing.parse(code))
    return Code(
        registers=int(_search(r"\bREG:(\d+)", usage)),
        shared=shared,
        spills=len(re.findall(r"\b(?:LDL|STL)\b", code)),
        # LDGSTS loads straight into shared memory.
        loads=_nvidia_widths("LDG(?:STS)?", code),
        stores=_nvidia_widths("STG", code),
        **asdict(executed),
    )


def _nvidia_widths(instruction: str, code: str) -> dict[str, int]:
    """Count by width; instructions without one move 32 bits."""
    every = re.findall(rf"\b{instruction}\b((?:\.\w+)*)", code)
    widths = (re.search(r"\.[US]?(8|16|64|128)\b", modifiers) for modifiers in every)
    return _count(int(width.group(1)) if width else 32 for width in widths)


AMD_BITS = {
    "ubyte": 8, "sbyte": 8, "byte": 8, "ushort": 16, "sshort": 16, "short": 16, "dword": 32,
    "dwordx2": 64, "dwordx3": 96, "dwordx4": 128,
}  # fmt: skip


def _read_amd(assembly: str, shared: int) -> Code:
    """Read what the assembler was given, and its metadata.

    Shared memory is not in it: Triton has it set aside at the launch.
    """
    spilled = (int(_search(rf"\.{kind}gpr_spill_count:\s*(\d+)", assembly)) for kind in ("s", "v"))
    return Code(
        registers=int(_search(r"\.vgpr_count:\s*(\d+)", assembly)),
        shared=shared,
        spills=sum(spilled),
        loads=_amd_widths("load", assembly),
        stores=_amd_widths("store", assembly),
    )


def _amd_widths(verb: str, assembly: str) -> dict[str, int]:
    pattern = rf"\b(?:global|buffer)_{verb}_(?:d16_hi_|d16_)?(\w+?)(?:_d16\w*)?\s"
    return _count(AMD_BITS[kind] for kind in re.findall(pattern, assembly))


def _count(widths: Iterable[int]) -> dict[str, int]:
    """Count by width, the widest first."""
    return {str(width): count for width, count in sorted(Counter(widths).items(), reverse=True)}


def _search(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"the compiler's output has no {pattern}.")
    return match.group(1)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
