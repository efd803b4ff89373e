"""Check that freed memory stays in the process, up to a bound."""

import json
import subprocess
import sys

import pytest

import cam

SCRIPT = """
import json, resource, sys
import cam

limit = json.loads(sys.argv[1])
keeps = limit is not None and cam.keep_memory(limit)


def count_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure_memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 2**20


def use():
    # As large as a network's activations.
    parts = [b"1" * (number * 2**22) for number in range(4, 12)]
    return sum(len(part) for part in parts)


use()
before = count_faults()
use()
print(json.dumps([keeps, count_faults() - before, measure_memory()]))
"""


def run(limit: int | None) -> tuple[bool, int, int]:
    """Return whether memory is kept, page faults of the second use, and MiB at its end."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(json.loads(done.stdout))


@pytest.mark.skipif(not cam.keep_memory(), reason="another C library than glibc")
def test_what_was_freed_is_used_again_and_has_a_bound():
    # 240 MiB in each use.
    _, faults, free = run(None)
    keeps, kept_faults, kept_free = run(2**30)
    _, bounded_faults, bounded_free = run(100 * 2**20)
    assert keeps
    assert faults > 50_000 and bounded_faults > 5_000
    assert kept_faults < 0.01 * faults
    assert 200 < kept_free - free < 300
    assert bounded_free - free < 120


@pytest.mark.parametrize("limit", [-1, 2**31])
def test_a_limit_that_is_none(limit):
    with pytest.raises(cam.InputError, match="must be between 0 and 2147483647"):
        cam.keep_memory(limit)
