"""Memory that is freed is given back to the system."""

import subprocess
import sys

import pytest

CODE = """
import importlib.util, os, sys, threading
spec = importlib.util.spec_from_file_location("heap", sys.argv[1])
heap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(heap)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
def work(kept):  # blocks, and after each something small that stays
    for _ in range(2):
        blocks = [bytearray(100_000) for _ in range(50)]
        kept += [bytes(1000) for _ in range(50)]
        del blocks
limited, before, kept = heap.limit_heaps(), resident(), []
threads = [threading.Thread(target=work, args=(kept,)) for _ in range(8)]
[each.start() for each in threads]
[each.join() for each in threads]
after = resident()
heap.give_back()
print(limited, after - before, resident() - before)
"""


def measured(**environment):
    """Whether there is a limit; megabytes that are kept without use before they are given back, and afterwards."""
    from muomni import heap

    command = [sys.executable, "-c", CODE, heap.__file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    limited, before, after = done.stdout.split()
    return limited == "True", int(before), int(after)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_free_pages_are_given_back():
    limited, before, after = measured()
    if not limited:
        pytest.skip("this system's malloc has no such settings")
    assert after <= min(before, 3)


def test_the_environment_comes_first():
    assert not measured(MALLOC_ARENA_MAX="1")[0]
