"""Asynchronous invocations while processes are killed at random moments.

Nothing is lost, and nothing is done twice. SNS is a listener of the test, so that all that was
published is known, whoever is killed.
"""

import itertools
import json
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from async_endpoints import deploy_async, put_input
from listener import Listener
from server import Server, wait_for

TOPIC = "arn:aws:sns:us-east-1:123456789012:storm"
WORK = """
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    time.sleep(0.002)
    text = data.decode() if isinstance(data, bytes) else data
    return "answer to " + text, "text/plain"
"""
VICTIMS = ("clary-worker", "clary-control", "clary-jobs", "clary-host", "clary-objects")


class Callers:
    """Send calls until a number of them were accepted, whatever happens meanwhile."""

    def __init__(self, server: Server, count: int) -> None:
        self.server = server
        self.count = count
        self.accepted: dict[str, str] = {}
        """Output locations by what was sent."""
        self.ids: dict[str, str] = {}
        self.numbers = itertools.count(1)
        self.client = server.client("sagemaker-runtime")
        assert server.s3 is not None  # clients are made in one thread
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(4)]
        for thread in self.threads:
            thread.start()

    def are_busy(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)

    def run(self) -> None:
        client = self.client
        while len(self.accepted) < self.count:
            text = f"call {next(self.numbers)}"
            try:
                if not text.endswith(("0", "5")):
                    reply = client.invoke_endpoint_async(
                        EndpointName="storm", Body=text.encode(), ContentType="text/plain"
                    )
                else:
                    location = put_input(self.server, text, text.encode())
                    reply = client.invoke_endpoint_async(
                        EndpointName="storm", InputLocation=location, ContentType="text/plain"
                    )
            except (ClientError, BotoCoreError):
                time.sleep(0.05)
                continue
            self.accepted[text] = reply["OutputLocation"]
            self.ids[text] = reply["InferenceId"]


def rows(server: Server, query: str) -> list[Any]:
    path = server.data_dir / "state.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
        return database.execute(query).fetchall()


def open_rows(server: Server) -> int:
    states = "SELECT count(*) FROM async_invocations WHERE state IN ('queued', 'running')"
    return int(rows(server, states)[0][0]) + int(rows(server, "SELECT count(*) FROM outbox")[0][0])


def storm(server: Server, callers: Callers, kills: Counter[str], *, rounds: int) -> None:
    """Kill so often at random moments; each tenth time, everything."""
    choice = random.Random()
    for number in range(rounds):
        until = len(callers.accepted) + choice.uniform(0.3, 1.0) * callers.count / rounds
        wait_for(
            lambda until=until: len(callers.accepted) >= until or not callers.are_busy(),
            timeout_s=60,
            what="further calls to be accepted",
        )
        if number % 10 == 5:
            server.kill()
            server.start()
            kills["everything"] += 1
            continue
        victim = choice.choice(VICTIMS)
        pids = server.pids(victim)
        if pids:
            with suppress(ProcessLookupError):
                os.kill(choice.choice(pids), signal.SIGKILL)
                kills[victim] += 1


def run_storm(tmp_path: Path, count: int, *, rounds: int, timeout_s: float) -> Counter[str]:
    kills: Counter[str] = Counter()
    with Listener() as sns:
        server = Server(
            tmp_path,
            CLARY_NEIGHBOURS_SNS_ENDPOINT_URL=sns.url,
            CLARY_FLEET_MAX_WORKERS="2",
        )
        with server:
            server.s3.create_bucket(Bucket="results")
            server.s3.create_bucket(Bucket="inputs")
            deploy_async(server, "storm", WORK, topics={"SuccessTopic": TOPIC, "ErrorTopic": TOPIC})
            callers = Callers(server, count)
            storm(server, callers, kills, rounds=rounds)
            wait_for(
                lambda: not callers.are_busy() and open_rows(server) == 0,
                timeout_s=timeout_s,
                what="all to be done",
                poll_s=0.2,
            )
            check(server, callers, sns)
    return kills


def check(server: Server, callers: Callers, sns: Listener) -> None:
    # A call whose answer was lost may have been accepted too: it is in the database like the rest.
    states = rows(server, "SELECT state, owner, count(*) FROM async_invocations GROUP BY 1, 2")
    assert [(state, owner) for state, owner, _ in states] == [("done", None)], states
    total = states[0][2]
    assert total >= len(callers.accepted)
    pages = server.s3.get_paginator("list_objects_v2").paginate(Bucket="results")
    keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
    assert len(keys) == total
    assert not any("failures" in key for key in keys)
    for text, location in callers.accepted.items():
        bucket, _, key = location.removeprefix("s3://").partition("/")
        body = server.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        assert body == f"answer to {text}".encode()
    messages: dict[str, set[str]] = {}
    for posted in sns.posted:
        fields = parse_qs(posted.body.decode())
        message = json.loads(fields["Message"][0])
        if message["eventName"] == "InferenceResult":
            messages.setdefault(message["inferenceId"], set()).add(fields["Message"][0])
    assert set(callers.ids.values()) <= set(messages)
    assert len(messages) == total
    assert all(len(contents) == 1 for contents in messages.values())
    assert all(json.loads(*m)["invocationStatus"] == "Completed" for m in messages.values())


@pytest.mark.timeout(240)
def test_a_thousand_calls_through_a_storm_of_kills(tmp_path: Path) -> None:
    kills = run_storm(tmp_path, 1200, rounds=9, timeout_s=90)
    assert kills["everything"] == 1
    assert sum(kills.values()) >= 5


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_calls_through_a_storm_of_kills(tmp_path: Path) -> None:
    kills = run_storm(tmp_path, 10_000, rounds=60, timeout_s=300)
    assert kills["everything"] == 6
    assert sum(kills.values()) >= 40
