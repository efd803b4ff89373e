"""The GPUs that launches are compiled for, and what limits them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A GPU architecture, and what limits the programs on a core.

    Sources: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability" and
    "Throughput of Native Arithmetic Instructions" (32 lanes of shuffles a clock and core); NVIDIA's
    data sheets of A100 80 GB SXM, L40S, H100 SXM and B200; AMD CDNA 3 Instruction Set Architecture,
    chapter 3 (512 registers a lane and SIMD, 4 SIMDs a compute unit, 8 waves each), and AMD's data
    sheet of MI300X.
    """

    name: str  # of one that is widely used
    backend: str
    architecture: int | str
    warp: int  # threads
    thread_registers: int  # that a thread can have at most
    registers: int  # a core, 32 bits each
    register_step: int  # a thread's registers are rounded up to this
    threads: int  # a core
    programs: int  # a core
    shared: int  # bytes a core
    shared_reserved: int  # bytes that each program takes beside its own
    cores: int
    clock: float  # GHz, boost
    issue: float  # instructions of a whole warp that a core begins in a clock
    shuffle: float  # of them shuffles
    bandwidth: float  # GB/s


# An AMD compute unit has four SIMDs of 16 lanes: one of their instructions keeps a wave of 64 busy
# for four clocks. Shuffles go through shared memory, 128 bytes a clock.
DEVICES = {
    "sm_80": Device(
        "A100", "cuda", 80, 32, 255, 65_536, 8, 2048, 32, 164 * 1024, 1024,
        cores=108, clock=1.41, issue=4, shuffle=1, bandwidth=2039,
    ),
    "sm_89": Device(
        "L40S", "cuda", 89, 32, 255, 65_536, 8, 1536, 24, 100 * 1024, 1024,
        cores=142, clock=2.52, issue=4, shuffle=1, bandwidth=864,
    ),
    "sm_90": Device(
        "H100", "cuda", 90, 32, 255, 65_536, 8, 2048, 32, 228 * 1024, 1024,
        cores=132, clock=1.98, issue=4, shuffle=1, bandwidth=3350,
    ),
    "sm_100": Device(
        "B200", "cuda", 100, 32, 255, 65_536, 8, 2048, 32, 228 * 1024, 1024,
        cores=148, clock=1.965, issue=4, shuffle=1, bandwidth=8000,
    ),
    "gfx942": Device(
        "MI300X", "hip", "gfx942", 64, 512, 4 * 64 * 512, 8, 2048, 32, 64 * 1024, 0,
        cores=304, clock=2.1, issue=1, shuffle=0.5, bandwidth=5300,
    ),
}  # fmt: skip
