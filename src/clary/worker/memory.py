"""How much memory a process really takes."""

import os


def memory_kib(pid: int) -> int:
    """Return the memory of a process in KiB; 0 when it is gone.

    What it shares with others (the interpreter, libraries) counts in proportion, so that the sum
    over all processes is what they take together. Where the kernel does not say so: all of it.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    except (OSError, ValueError, IndexError):
        return 0
