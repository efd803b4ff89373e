"""Evaluate the integer instructions of NVIDIA's machine code, one thread.

Branches of the kernels depend on whole numbers: sizes, strides, the program's number, the thread's
number. What is loaded from memory and what is computed in floating point is not known, and None.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

WORD = 2**32
Value = int | None
Constants = dict[tuple[int, int], int]  # 32-bit words by bank and byte
UNKNOWN_WIDTH = {"128": 4, "64": 2, "WIDE": 2}  # registers that an instruction writes


ZERO = -1  # the register that is always 0
UNIFORM = 1000  # what the numbers of uniform registers begin with


@cache
def _operand(text: str) -> tuple[str, str, int, int, int]:
    """Take apart an operand: kind, sign, register, bank, and number or byte."""
    sign = text[0] if text[0] in "-~" and text[1:2] in ("R", "U", "c") else ""
    text = text.replace(".reuse", "").replace(".64", "").removeprefix(sign)
    if match := re.fullmatch(r"c\[0x(\w+)\]\[(?:(U?R\w+)\s*\+?\s*)?(?:0x(\w+))?\]", text):
        register = _register(match[2]) if match[2] else ZERO
        return "constant", sign, register, int(match[1], 16), int(match[3] or "0", 16)
    if re.fullmatch(r"U?R(\d+|Z)", text):
        return "register", sign, _register(text), 0, 0
    if re.fullmatch(r"-?0x[0-9a-f]+", text):
        return "number", "", 0, 0, int(text, 16)
    return "unknown", "", 0, 0, 0


def _register(text: str) -> int:
    number = text.removeprefix("U").removeprefix("R")
    if number == "Z":
        return ZERO
    return int(number) + UNIFORM * text.startswith("U")


@cache
def is_predicate(text: str) -> bool:
    """Check whether an operand is a predicate, perhaps negated."""
    return re.fullmatch(r"!?U?P(\d|T)", text) is not None


@dataclass(frozen=True)
class Instruction:
    """One instruction: `@!P0 ISETP.GE.AND P1, PT, R2, c[0x0][0x250], PT`."""

    guard: str  # "!P0", or "" where it always runs
    name: str  # without modifiers
    modifiers: tuple[str, ...]
    operands: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Instruction":
        """Take apart one line of the disassembly, without its address."""
        match = re.match(r"(?:@(!?U?P\w+)\s+)?([\w.]+)\s*(.*)", text.strip())
        assert match is not None, text
        guard, full_name, rest = match.groups()
        name, *modifiers = full_name.split(".")
        operands = tuple(part.strip() for part in rest.split(",")) if rest else ()
        return cls(guard or "", name, tuple(modifiers), operands)


@dataclass
class Thread:
    """The registers and predicates of one thread, and what is constant for it."""

    constants: Constants
    number: int  # in its program
    program: int
    registers: dict[int, Value] = field(default_factory=dict)
    predicates: dict[str, bool | None] = field(default_factory=dict)

    def run(self, instruction: Instruction) -> None:
        """Carry out an instruction that is no branch."""
        if instruction.guard:
            holds = self.predicate(instruction.guard)
            if holds is False:
                return
            if holds is None:
                self._forget(instruction)
                return
        operation = OPERATIONS.get(instruction.name)
        if operation is None:
            self._forget(instruction)
        else:
            operation(self, instruction)

    def predicate(self, text: str) -> bool | None:
        """Read a predicate; `PT` is true, and `!` negates."""
        if text.startswith("!"):
            value = self.predicate(text[1:])
            return None if value is None else not value
        return True if text in ("PT", "UPT") else self.predicates.get(text)

    def read(self, text: str, offset: int = 0) -> Value:
        """Read an operand's 32 bits; `offset` words further for the upper half of a pair.

        A negated register is 2³² less it, not cut to 32 bits: 2³² for 0, as the carry needs it.
        """
        kind, sign, register, bank, number = _operand(text)
        value: Value = None
        if kind == "register":
            value = 0 if register == ZERO else self.registers.get(register + offset)
        elif kind == "constant":
            base = 0 if register == ZERO else self.registers.get(register)
            if base is not None:
                value = self.constants.get((bank, base + number + 4 * offset))
        elif kind == "number":
            value = number % WORD if offset == 0 else (WORD - 1 if number < 0 else 0)
        if value is None or not sign:
            return value
        return WORD - value if sign == "-" else WORD - 1 - value

    def write(self, text: str, value: Value, offset: int = 0) -> None:
        """Set a register, or one further on; writes to `RZ` are lost."""
        kind, _, register, _, _ = _operand(text)
        if kind == "register" and register != ZERO:
            self.registers[register + offset] = None if value is None else value % WORD

    def write_pair(self, text: str, value: Value) -> None:
        """Set two registers to the halves of 64 bits."""
        self.write(text, value)
        self.write(text, None if value is None else value // WORD, 1)

    def write_predicate(self, text: str, value: bool | None) -> None:
        """Set a predicate; writes to `PT` are lost."""
        if text not in ("PT", "UPT"):
            self.predicates[text] = value

    def _forget(self, instruction: Instruction) -> None:
        """Mark what an instruction writes as unknown."""
        width = max((UNKNOWN_WIDTH.get(part, 1) for part in instruction.modifiers), default=1)
        for operand in instruction.operands[:2]:
            if is_predicate(operand):
                self.write_predicate(operand, None)
            else:
                for offset in range(width):
                    self.write(operand, None, offset)
                return


def signed(value: int) -> int:
    """Read 32 bits as a number with sign."""
    value %= WORD
    return value - WORD if value >= WORD // 2 else value


def _split(thread: Thread, instruction: Instruction) -> tuple[str, list[str], list[str]]:
    """Separate destination, carries out, and sources."""
    first, *rest = instruction.operands
    carries = []
    while rest and is_predicate(rest[0]):
        carries.append(rest.pop(0))
    return first, carries, rest


def _carry(thread: Thread, sources: list[str]) -> tuple[list[str], int | None]:
    """Take the carries in off the end of the sources, and add them."""
    total: int | None = 0
    while sources and is_predicate(sources[-1]):
        bit = thread.predicate(sources.pop())
        total = None if bit is None or total is None else total + bit
    return sources, total


def _add(thread: Thread, instruction: Instruction) -> None:
    target, carries, sources = _split(thread, instruction)
    sources, carry = _carry(thread, sources)
    values = [thread.read(source) for source in sources]
    # ".X" takes carries in; without it predicates at the end are unused.
    if "X" not in instruction.modifiers:
        carry = 0
    if None in values or carry is None:
        total = None
    else:
        total = sum(value for value in values if value is not None) + carry
    thread.write(target, total)
    for position, name in enumerate(carries):
        over = None if total is None else total >= WORD * (position + 1)
        thread.write_predicate(name, over)


def _multiply_add(thread: Thread, instruction: Instruction) -> None:
    target, carries, sources = _split(thread, instruction)
    sources, carry = _carry(thread, sources)
    wide, high = "WIDE" in instruction.modifiers, "HI" in instruction.modifiers
    first, second, third = sources[:3]
    a, b, c = (thread.read(source) for source in (first, second, third))
    if a is None or b is None or c is None or (carry is None and "X" in instruction.modifiers):
        for offset in range(1 + wide):
            thread.write(target, None, offset)
        return
    if wide or high:
        upper = thread.read(third, 1)
        plain = "U32" in instruction.modifiers
        product = (a % WORD) * (b % WORD) if plain else signed(a) * signed(b)
        total = None if upper is None else product + c % WORD + WORD * upper  # of 64 bits
        if wide:
            thread.write_pair(target, total)
        else:
            thread.write(target, None if total is None else total // WORD)
        return
    total = a * b + c + ((carry or 0) if "X" in instruction.modifiers else 0)
    thread.write(target, total)
    for name in carries:
        thread.write_predicate(name, None)


def _scaled_add(thread: Thread, instruction: Instruction) -> None:
    target, carries, sources = _split(thread, instruction)
    sources, carry = _carry(thread, sources)
    high = "HI" in instruction.modifiers
    extended = "SX32" in instruction.modifiers
    a, b = thread.read(sources[0]), thread.read(sources[1])
    shift = thread.read(sources[-1])
    upper: Value = 0
    if high:
        if extended:
            upper = None if a is None else signed(a) // WORD % WORD
        else:
            upper = thread.read(sources[2])
    if "X" not in instruction.modifiers:
        carry = 0
    if a is None or b is None or shift is None or upper is None or carry is None:
        total = None
    elif high:
        whole = (upper % WORD) * WORD + a % WORD
        total = b + ((whole << shift) // WORD) % WORD + carry
    else:
        total = b + ((a << shift) % WORD) + carry
    thread.write(target, total)
    for name in carries:
        thread.write_predicate(name, None if total is None else total >= WORD)


def _logic(thread: Thread, instruction: Instruction) -> None:
    operands = list(instruction.operands)
    outcome = operands.pop(0) if is_predicate(operands[0]) else "PT"
    target = operands.pop(0)
    values = [thread.read(source) for source in operands[:3]]
    table = thread.read(operands[3])
    result: Value = None
    if table is not None:
        result = _look_up(values, table)
    thread.write(target, result)
    thread.write_predicate(outcome, None if result is None else result != 0)


def _look_up(values: list[Value], table: int) -> Value:
    """Apply a truth table of three words, some of them perhaps unknown."""
    total = 0
    for bits in range(8):
        if table >> bits & 1:
            part = WORD - 1
            for position, value in enumerate(values):
                if value is None:
                    # Known only if the table ignores this word, or another one masks it out.
                    return _masked(values, table)
                part &= value if bits >> (2 - position) & 1 else WORD - 1 - value
            total |= part
    return total


def _masked(values: list[Value], table: int) -> Value:
    """Apply the table with unknown words once as zeros, once as ones; they must agree."""
    unknown = [position for position, value in enumerate(values) if value is None]
    results = set()
    for choice in range(2 ** len(unknown)):
        tried = list(values)
        for turn, position in enumerate(unknown):
            tried[position] = WORD - 1 if choice >> turn & 1 else 0
        results.add(_look_up(tried, table))
    return results.pop() if len(results) == 1 else None


def _shift(thread: Thread, instruction: Instruction) -> None:
    target, low, count, high = instruction.operands
    a, n, c = thread.read(low), thread.read(count), thread.read(high)
    if "HI" in instruction.modifiers and "R" in instruction.modifiers:
        a = a or 0  # only the upper word counts
    if "L" in instruction.modifiers and "HI" not in instruction.modifiers:
        c = c or 0
    if a is None or n is None or c is None:
        thread.write(target, None)
        return
    n %= 64
    if "L" in instruction.modifiers:
        whole = ((c % WORD) * WORD + a % WORD) << n
        thread.write(target, whole // WORD if "HI" in instruction.modifiers else whole)
        return
    upper = signed(c) if {"S32", "S64"} & {*instruction.modifiers} else c % WORD
    whole = (upper * WORD + a % WORD) >> n
    thread.write(target, whole // WORD if "HI" in instruction.modifiers else whole)


COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "LT": lambda a, b: a < b,
    "LE": lambda a, b: a <= b,
    "GT": lambda a, b: a > b,
    "GE": lambda a, b: a >= b,
    "EQ": lambda a, b: a == b,
    "NE": lambda a, b: a != b,
}


def _compare(thread: Thread, instruction: Instruction) -> None:
    target, other, first, second, *inputs = instruction.operands
    modifiers = instruction.modifiers
    a, b = thread.read(first), thread.read(second)
    result: bool | None = None
    if a is not None and b is not None:
        if "U32" in modifiers:
            a, b = a % WORD, b % WORD
        else:
            a, b = signed(a), signed(b)
        result = COMPARISONS[modifiers[0]](a, b)
        if "EX" in modifiers and a == b:
            result = thread.predicate(inputs[1])  # what the lower words gave
    before = thread.predicate(inputs[0])
    either = "OR" in modifiers
    for name, value in ((target, result), (other, None if result is None else not result)):
        thread.write_predicate(name, _combine(value, before, either))


def _combine(a: bool | None, b: bool | None, either: bool) -> bool | None:
    """And, or or, where one of the two may be unknown."""
    if a is either or b is either:
        return either
    return None if a is None or b is None else not either


def _select(thread: Thread, instruction: Instruction) -> None:
    target, first, second, condition = instruction.operands
    holds = thread.predicate(condition)
    a, b = thread.read(first), thread.read(second)
    thread.write(target, (a if a == b else None) if holds is None else (a if holds else b))


def _lesser(thread: Thread, instruction: Instruction) -> None:
    target, first, second, condition = instruction.operands[:4]
    a, b, least = thread.read(first), thread.read(second), thread.predicate(condition)
    if a is None or b is None or least is None:
        thread.write(target, None)
        return
    if "U32" not in instruction.modifiers:
        a, b = signed(a), signed(b)
    thread.write(target, (min if least else max)(a, b))


def _lesser_of_sum(thread: Thread, instruction: Instruction) -> None:
    target, first, second, limit, condition = instruction.operands[:5]
    a, b, c = (thread.read(source) for source in (first, second, limit))
    least = thread.predicate(condition)
    if a is None or b is None or c is None or least is None:
        thread.write(target, None)
        return
    total = (a + b) % WORD
    if "U32" not in instruction.modifiers:
        total, c = signed(total), signed(c)
    thread.write(target, (min if least else max)(total, c))


def _move(thread: Thread, instruction: Instruction) -> None:
    target, source = instruction.operands[:2]
    for offset in range(2 if "64" in instruction.modifiers else 1):
        thread.write(target, thread.read(source, offset), offset)


def _special(thread: Thread, instruction: Instruction) -> None:
    target, source = instruction.operands[:2]
    values = {"SR_TID.X": thread.number, "SR_CTAID.X": thread.program, "SRZ": 0}
    values["SR_LANEID"] = thread.number % 32
    wide = instruction.name == "CS2R" and "32" not in instruction.modifiers
    for offset in range(2 if wide else 1):
        thread.write(target, values.get(source), offset)


def _absolute(thread: Thread, instruction: Instruction) -> None:
    target, source = instruction.operands[:2]
    value = thread.read(source)
    thread.write(target, None if value is None else abs(signed(value)))


def _truth_of_predicates(thread: Thread, instruction: Instruction) -> None:
    target, other, *rest = instruction.operands
    inputs = [thread.predicate(name) for name in rest[:3]]
    for name, text in ((target, rest[3]), (other, rest[4])):
        table = thread.read(text)
        words = [None if value is None else (WORD - 1) * value for value in inputs]
        result = None if table is None else _look_up(list(words), table)
        thread.write_predicate(name, None if result is None else result != 0)


def _to_float(thread: Thread, instruction: Instruction) -> None:
    target, source = instruction.operands[:2]
    value = thread.read(source)
    if value is not None and "S32" in instruction.modifiers:
        value = signed(value)
    thread.write(target, None if value is None else _bits(float(value)))


def _to_whole(thread: Thread, instruction: Instruction) -> None:
    target, source = instruction.operands[:2]
    value = thread.read(source)
    thread.write(target, None if value is None else min(int(_float(value)), WORD - 1))


def _special_function(thread: Thread, instruction: Instruction) -> None:
    target, source = instruction.operands[:2]
    value = thread.read(source)
    if value is None or "RCP" not in instruction.modifiers or _float(value) == 0:
        thread.write(target, None)
    else:
        thread.write(target, _bits(1 / _float(value)))


def _half_constants(thread: Thread, instruction: Instruction) -> None:
    """Set a register to two halves, which the compiler uses to move a constant."""
    target, first, second, *halves = instruction.operands
    if first.strip("-") == "RZ" and second == "RZ" and len(halves) == 2:
        upper, lower = (struct.unpack("<H", struct.pack("<e", float(half)))[0] for half in halves)
        thread.write(target, upper << 16 | lower)
    else:
        thread.write(target, None)


def _bits(value: float) -> int:
    return int.from_bytes(struct.pack("<f", value), "little")


def _float(bits: int) -> float:
    return float(struct.unpack("<f", (bits % WORD).to_bytes(4, "little"))[0])


_BY_NAME: dict[str, Callable[[Thread, Instruction], None]] = {
    **dict.fromkeys(("IADD3", "IADD", "VIADD"), _add),
    "IMAD": _multiply_add,
    "LEA": _scaled_add,
    "LOP3": _logic,
    "SHF": _shift,
    "ISETP": _compare,
    "SEL": _select,
    **dict.fromkeys(("IMNMX", "VIMNMX"), _lesser),
    "VIADDMNMX": _lesser_of_sum,
    **dict.fromkeys(("MOV", "LDC", "R2UR", "LDCU"), _move),
    **dict.fromkeys(("S2R", "S2UR", "CS2R", "CS2UR"), _special),
    "IABS": _absolute,
    "PLOP3": _truth_of_predicates,
    **dict.fromkeys(("I2F", "I2FP"), _to_float),
    "F2I": _to_whole,
    "MUFU": _special_function,
    "HFMA2": _half_constants,
}
# The same instructions on registers that a warp shares begin with U.
OPERATIONS = {f"U{name}": operation for name, operation in _BY_NAME.items()} | _BY_NAME
