"""How fast Clary is, beside what its users would run instead: ``make bench``.

Every comparison runs on the same machine, with the same model functions and the same load
generator, in interleaved rounds; the table holds the median of the rounds. Targets are reported as
met or missed, never asserted: a busy machine is no broken build.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks"
MODELS = HERE / "models"
PEERS = ROOT / ".peers"
"""Virtual environments of what Clary is compared with, one each."""

# The tests' own helper starts the server: what is measured is what is tested.
sys.path.insert(0, str(ROOT / "tests"))
