"""The examples of transform jobs, asynchronous endpoints, and which of all to take."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server import Server

ROOT = Path(__file__).parents[2] / "examples"


def run(server: Server, program: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / program)],
        env=server.environ(),
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(180)
def test_a_nightly_job_is_watched_to_its_end(server: Server) -> None:
    printed = run(server, "transform_job/nightly.py")
    assert re.search(r"leaving-\d+-\d+: Completed", printed)
    found = re.findall(r"(region-\d\.csv)\.out: (\d+) rows, the first is (\d),(0\.\d+)", printed)
    assert [(name, int(rows), int(first)) for name, rows, first, _ in found] == [
        (f"region-{n}.csv", 3000, n) for n in range(3)
    ]


@pytest.mark.timeout(180)
def test_documents_wait_for_an_instance_and_are_summed_up(server: Server) -> None:
    lines = run(server, "async/documents.py").splitlines()
    assert lines[:3] == [
        "3 documents wait for an instance",
        "whales.txt: whale",
        "bridges.txt: bridge",
    ]
    assert lines[3].startswith("empty.txt: failed: ")
    assert "the document is empty" in "\n".join(lines[3:])


@pytest.mark.timeout(180)
def test_what_is_decided_for_is_deployed_and_answers(server: Server) -> None:
    printed = run(server, "choosing/cases.py")
    decided = dict(re.findall(r"^(\w.*?): ([a-z-]+ [a-z]+), for .*$", printed, re.MULTILINE))
    assert decided == {
        "risk at a checkout": "real-time endpoint",
        "a tool of the back office": "serverless endpoint",
        "reports of hundreds of pages": "asynchronous endpoint",
        "all customers, every night": "transform job",
    }
    assert printed.count("it answers HELLO") == 4


@pytest.fixture(scope="module")
def choosing() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "choosing/choose.py"))


SMALL = {"calls_per_day": 10, "seconds_per_call": 1, "largest_mb": 1, "answer_within_s": 30}
BUSY = {**SMALL, "calls_per_day": 80_000}


@pytest.mark.parametrize(
    ("traffic", "kind"),
    [
        (SMALL, "SERVERLESS"),
        ({**SMALL, "answer_within_s": 2}, "REAL_TIME"),  # no time for a cold start
        ({**SMALL, "largest_mb": 5}, "REAL_TIME"),
        ({**SMALL, "largest_mb": 5, "answer_within_s": 900}, "ASYNC"),
        ({**SMALL, "largest_mb": 26}, "ASYNC"),
        ({**SMALL, "seconds_per_call": 61}, "ASYNC"),
        (BUSY, "REAL_TIME"),
        ({**BUSY, "answer_within_s": None}, "BATCH"),
        ({**BUSY, "answer_within_s": None, "largest_mb": 5000}, "BATCH"),
    ],
)
def test_numbers_decide(choosing: dict[str, Any], traffic: dict[str, Any], kind: str) -> None:
    chosen, why = choosing["choose"](choosing["Traffic"](**traffic))
    assert chosen is choosing["Kind"][kind]
    assert why


def test_what_no_endpoint_takes_is_said(choosing: dict[str, Any]) -> None:
    for change in ({"largest_mb": 2000}, {"seconds_per_call": 4000}):
        with pytest.raises(ValueError, match="transform job"):
            choosing["choose"](choosing["Traffic"](**{**SMALL, **change}))
