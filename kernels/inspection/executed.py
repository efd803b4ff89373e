"""Count what a launch executes, by following its branches."""

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..launch.launcher_parts import Launch
from .sass_values import WORD, Constants, Instruction, Thread

# Where the launch's arguments begin in bank 0 of the constants.
FIRST_ARGUMENT = {80: 0x160, 89: 0x160, 90: 0x210, 100: 0x380}
INSTRUCTION = re.compile(r"\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;")  # address and text
MOST = 2_000_000  # instructions of one warp: more than that is a loop whose end was missed


@dataclass(frozen=True)
class Executed:
    """What the warps of a program execute between them."""

    instructions: int
    shuffles: int
    barriers: int

    def __add__(self, other: "Executed") -> "Executed":
        return Executed(
            self.instructions + other.instructions,
            self.shuffles + other.shuffles,
            self.barriers + other.barriers,
        )

    def times(self, count: int) -> "Executed":
        """Take it several times."""
        return Executed(self.instructions * count, self.shuffles * count, self.barriers * count)


def count_call(launch: Launch, listing: "Listing", constants: Constants, warps: int) -> Executed:
    """Count what all programs of a launch execute.

    Each is taken for program 0, and one of every image for the last of its image.

    Args:
        launch: Whose programs.
        listing: The kernel's machine code.
        constants: As `constants_of` gives them.
        warps: Of a program.
    """
    programs = math.prod(launch.grid)
    images = 0
    if launch.arguments.get("p_counters") is not None:
        images = next(v for v in launch.arguments.values() if isinstance(v, Tensor)).shape[0]
    total = count_program(listing, constants, warps, last=False).times(programs - images)
    if images:
        total += count_program(listing, constants, warps, last=True).times(images)
    return total


@dataclass(frozen=True)
class Listing:
    """A kernel's instructions, and where they stand."""

    instructions: list[Instruction]
    addresses: list[int]
    labels: dict[str, int]  # positions among the instructions
    tables: Constants  # what the compiler itself put among the constants: targets of branches

    @classmethod
    def parse(cls, code: str) -> "Listing":
        """Read `nvdisasm`'s text."""
        instructions: list[Instruction] = []
        addresses: list[int] = []
        labels: dict[str, int] = {}
        tables: Constants = {}
        bank, is_code = None, False
        for line in code.splitlines():
            if section := re.match(r"\s*\.section\s+(\S+?),", line):
                table = re.match(r"\.nv\.constant([1-9])\b", section[1])
                bank = int(table[1]) if table else None
                is_code = section[1].startswith(".text")
            elif bank is not None:
                if data := re.match(r"\s*/\*([0-9a-f]+)\*/\s+\.(byte|word)\s+(.*)", line):
                    tables |= _words(bank, int(data[1], 16), data[2], data[3])
            elif is_code and (label := re.match(r"\s*([.$\w]+):\s*$", line)):
                labels[label[1]] = len(instructions)
            elif is_code and (text := INSTRUCTION.match(line)):
                instructions.append(Instruction.parse(text[2]))
                addresses.append(int(text[1], 16))
        return cls(instructions, addresses, labels, tables)


def _words(bank: int, start: int, kind: str, text: str) -> Constants:
    """Read a line of data as 32-bit words."""
    numbers = [int(part.strip(), 16) for part in text.split(",")]
    if kind == "byte":
        data = bytes(numbers)
        numbers = [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]
    return {(bank, start + 4 * position): number for position, number in enumerate(numbers)}


def count_program(listing: Listing, constants: Constants, warps: int, last: bool) -> Executed:
    """Follow the warps of program 0 through a kernel.

    A warp goes where its first thread goes, and warps 2ⁿ to 2ⁿ⁺¹ - 1 go where the first of them
    does: what only some threads do, Triton gives to the first 2ⁿ. Conditions of values, which are
    not known, are taken as usual: no division needs its slow way, and a program is the last of its
    image only if `last`.

    Args:
        listing: The kernel's.
        constants: The launch's.
        warps: Of a program.
        last: Whether to go through what only the last program of an image does.
    """
    total = Executed(0, 0, 0)
    firsts = [0, *(2**power for power in range(warps.bit_length()) if 2**power < warps)]
    for warp, following in zip(firsts, [*firsts[1:], warps], strict=True):
        names = _follow(listing, Thread(listing.tables | constants, 32 * warp, 0), last)
        alike = Executed(names.total(), names["SHFL"] + names["REDUX"], names["BAR"])
        total += alike.times(following - warp)
    return total


def _follow(listing: Listing, thread: Thread, last: bool) -> Counter[str]:
    names: Counter[str] = Counter()
    position = 0
    while names.total() < MOST:
        instruction = listing.instructions[position]
        names[instruction.name] += 1
        position += 1
        if instruction.name == "EXIT":
            holds = thread.predicate(instruction.guard) if instruction.guard else True
            if holds or (holds is None and not last):
                return names
        elif instruction.name == "BRA":
            target = _target(listing, instruction)
            if _goes(instruction, thread, listing.instructions[position:target], last):
                position = target
        elif instruction.name in ("BRX", "BRXU"):
            register, distance = instruction.operands[0].split()[:2]
            value = thread.read(register)
            if value is None:
                raise RuntimeError("a branch by a table depends on an unknown value.")
            address = (value + listing.addresses[position] + int(distance, 16)) % WORD
            position = listing.addresses.index(address)
        elif instruction.name == "CALL":
            # Some loops end by one. The slow way of a division, of values that are not known, is
            # not entered.
            if instruction.guard and thread.predicate(instruction.guard):
                position = _target(listing, instruction)
        else:
            thread.run(instruction)
    raise RuntimeError("a loop of the machine code does not end.")


def _target(listing: Listing, instruction: Instruction) -> int:
    label = re.search(r"\(([.$\w]+)\)", instruction.operands[-1])
    if label is None:
        raise RuntimeError(f"a branch goes to no label: {instruction}.")
    return listing.labels[label[1]]


def _goes(instruction: Instruction, thread: Thread, skipped: list[Instruction], last: bool) -> bool:
    """Decide whether a branch is taken."""
    conditions = [instruction.guard] if instruction.guard else []
    conditions += [text for text in instruction.operands[:-1] if re.fullmatch(r"!?U?P\w", text)]
    holds = [thread.predicate(text) for text in conditions]
    if False in holds:
        return False
    if None not in holds:
        return True
    if any(part.name == "CALL" for part in skipped):
        return True  # over the slow way of a division
    if any(part.name == "EXIT" for part in skipped):
        return last
    return False


def constants_of(
    arguments: dict[str, Any], signature: dict[str, str], capability: int, threads: int
) -> Constants:
    """Lay out a launch's arguments as the driver does.

    Args:
        arguments: By the kernel's parameter names.
        signature: The type of each, as Triton names it, in order.
        capability: 80, 89, 90 or 100.
        threads: Of a program.
    """
    words = {(0, 0): threads}
    byte = FIRST_ARGUMENT[capability]
    for number, (name, kind) in enumerate(signature.items()):
        if kind == "constexpr":
            continue
        wide = kind.startswith("*") or kind in ("i64", "u64", "fp64")
        size = 8 if wide else 4
        byte = -(-byte // size) * size
        value = arguments[name]
        if isinstance(value, Tensor):
            value = (number + 1) << 36  # any address that vectors may start at
        if not kind.startswith("fp"):
            words[0, byte] = int(value) % WORD
            if wide:
                words[0, byte + 4] = int(value) // WORD % WORD
        byte += size
    return words
