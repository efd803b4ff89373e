"""Test the count of executed instructions against programs counted by hand."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cam.kernels.inspection.executed import Listing, count_program
from cam.kernels.inspection.sass_values import WORD, Instruction, Thread

# Bank 0 holds a count at 0x10, which a loop runs down; a branch by a table goes over two barriers
# for the first warp, and over one for the others.
LISTING = """
        .section .nv.constant2.kernel,"a",@progbits
.nv.constant2.kernel:
        /*0000*/        .byte 0x70, 0x00, 0x00, 0x00, 0x80, 0x00, 0x00, 0x00
        .section .text.kernel,"ax",@progbits
.text.kernel:
        /*0000*/                   MOV R0, c[0x0][0x10] ;
.L_loop:
        /*0010*/                   SHFL.BFLY PT, R3, R2, 0x1, 0x1f ;
        /*0020*/                   IADD3 R0, R0, -0x1, RZ ;
        /*0030*/                   ISETP.GT.AND P0, PT, R0, RZ, PT ;
        /*0040*/               @P0 BRA `(.L_loop) ;
        /*0050*/                   S2R R1, SR_TID.X ;
        /*0054*/                   VIADDMNMX.U32 R1, R1, RZ, 0x1, PT ;
        /*0058*/                   SHF.L.U32 R1, R1, 0x2, RZ ;
        /*005c*/                   LDC R1, c[0x2][R1] ;
        /*0060*/                   BRX R1 -0x70  (*"BRANCH_TARGETS .L_first,.L_others"*);
.L_first:
        /*0070*/                   BAR.SYNC 0x0 ;
.L_others:
        /*0080*/                   BAR.SYNC 0x0 ;
        /*0090*/                   LDG.E R4, [R2.64] ;
        /*00a0*/                   ISETP.NE.AND P1, PT, R4, RZ, PT ;
        /*00b0*/               @P1 EXIT ;
        /*00c0*/                   REDUX.SUM UR4, R2 ;
        /*00d0*/                   EXIT ;
"""


@pytest.mark.parametrize(("count", "warps"), [(1, 1), (7, 1), (3, 8)])
def test_follows_loops_and_tables(count, warps):
    listing = Listing.parse(LISTING)
    executed = count_program(listing, {(0, 0x10): count}, warps, last=False)
    assert executed.shuffles == warps * count
    assert executed.barriers == warps + 1
    # Before the loop 1, in it 4 each turn, after it 9; and the first warp's other barrier.
    assert executed.instructions == warps * (1 + 4 * count + 9) + 1
    last = count_program(listing, {(0, 0x10): count}, warps, last=True)
    assert last.shuffles == executed.shuffles + warps
    assert last.instructions == executed.instructions + 2 * warps


ENDED_BY_A_CALL = """
        .section .text.kernel,"ax",@progbits
.text.kernel:
        /*0000*/                   MOV R0, c[0x0][0x10] ;
.L_loop:
        /*0010*/                   IADD3 R0, R0, -0x1, RZ ;
        /*0020*/                   ISETP.NE.AND P0, PT, R0, RZ, PT ;
        /*0030*/              @!P0 CALL.REL.NOINC `(.L_end) ;
        /*0040*/                   BRA `(.L_loop) ;
.L_end:
        /*0050*/                   EXIT ;
"""


def test_follows_a_loop_that_ends_by_a_call():
    executed = count_program(Listing.parse(ENDED_BY_A_CALL), {(0, 0x10): 5}, 1, last=False)
    assert executed.instructions == 1 + 4 * 4 + 3 + 1


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("IADD3 R0, R1, -R2, 0x5", 1000 - 77 + 5),
        ("IMAD R0, R1, R2, -R3", 1000 * 77 - (WORD - 5)),
        ("IMAD.HI.U32 R0, R3, R3, RZ", (WORD - 5) ** 2 // WORD),
        ("IMAD.HI R0, R3, R1, RZ", -5 * 1000 // WORD),
        ("LEA R0, R1, R2, 0x3", 8 * 1000 + 77),
        ("LEA.HI R0, R3, R1, RZ, 0x6", 1000 + ((WORD - 5) * 64 // WORD)),
        ("LOP3.LUT R0, R1, R2, R3, 0x96, !PT", 1000 ^ 77 ^ (WORD - 5)),
        ("LOP3.LUT R0, R1, R9, RZ, 0x0c, !PT", None),  # what R9 holds is not known
        ("LOP3.LUT R0, RZ, R9, RZ, 0xc0, !PT", 0),  # and here it does not matter
        ("SHF.R.S32.HI R0, RZ, 0x1f, R3", -1),
        ("SHF.R.U32.HI R0, RZ, 0x4, R1", 1000 >> 4),
        ("SHF.L.U32 R0, R1, 0x4, RZ", 1000 << 4),
        ("SEL R0, R1, R2, !PT", 77),
        ("IABS R0, R3", 5),
        ("VIMNMX R0, R3, R1, PT", -5),
    ],
)
def test_computes_with_whole_numbers(text, result):
    thread = Thread({}, 0, 0, registers={1: 1000, 2: 77, 3: WORD - 5})
    thread.run(Instruction.parse(text))
    assert thread.read("R0") == (None if result is None else result % WORD)


def test_divides_as_the_compiler_does():
    """A quotient by the reciprocal, put right by multiples, as every kernel begins."""
    text = """
        I2F.RP R4, R2
        MUFU.RCP R4, R4
        IADD3 R5, R4, 0xffffffe, RZ
        F2I.FTZ.U32.TRUNC.NTZ R6, R5
        IADD3 R7, RZ, -R6, RZ
        IMAD R7, R7, R2, RZ
        MOV R8, RZ
        MOV R9, R6
        IMAD.HI.U32 R6, R6, R7, R8
        IMAD.HI.U32 R0, R6, R1, RZ
        IMAD R10, R0, -R2, R1
        ISETP.GE.U32.AND P0, PT, R10, R2, PT
        @P0 IADD3 R10, R10, -R2, RZ
        @P0 IADD3 R0, R0, 0x1, RZ
        ISETP.GE.U32.AND P1, PT, R10, R2, PT
        @P1 IADD3 R0, R0, 0x1, RZ
    """
    for divisor in (1, 3, 7, 48, 1000):
        thread = Thread({}, 0, 0, registers={1: 1_000_003, 2: divisor})
        for line in text.split("\n"):
            if line.strip():
                thread.run(Instruction.parse(line))
        assert thread.read("R0") == 1_000_003 // divisor, divisor


PROGRAM = """
import torch, triton, triton.language as tl
from cam.kernels.inspection.devices import DEVICES
from cam.kernels.inspection.machine_code import compiled
from cam.kernels.launch.launcher_parts import Launch

@triton.jit
def total_kernel(p_values, p_out, n):
    total = 0.0
    for turn in tl.range(0, n, disable_licm=True):
        total += tl.sum(tl.load(p_values + 32 * turn + tl.arange(0, 32)), axis=0)
    tl.store(p_out, total)

values, out = torch.empty(3200, device="meta"), torch.empty(1, device="meta")
for target in ("sm_80", "sm_90", "sm_100"):
    for n in (6, 100):
        arguments = {"p_values": values, "p_out": out, "n": n}
        launch = Launch(total_kernel, (3,), arguments, num_warps=1, reads={}, writes={})
        print(compiled(launch, DEVICES[target]).shuffles)
"""


@pytest.mark.slow
def test_counts_the_shuffles_of_a_sum_in_what_the_compiler_makes():
    """A sum over the 32 threads of a warp takes five exchanges, in each of three programs."""
    environment = {name: text for name, text in os.environ.items() if name != "TRITON_INTERPRET"}
    # Triton reads a kernel's text from its file.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.py")
        path.write_text(PROGRAM)
        done = subprocess.run(
            [sys.executable, str(path)],
            env=environment | {"PYTHONPATH": str(Path.cwd())},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout.split() == ["90", "1500"] * 3, done.stderr[-2000:]
