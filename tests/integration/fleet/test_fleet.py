import asyncio
import json
import os
import signal
from typing import Any

import pytest

from clary.fleet.instance import ObservedInstance, Phase
from clary.fleet.launchers.base import InstanceState
from fleets import ECHO, Site, an_order, observed_until, pack
from server import wait_for

STUBBORN = f"import atexit, time\natexit.register(time.sleep, 60)\n{ECHO}"
"""It hears SIGTERM, and takes a minute to leave."""


def an_archive(site: Site, name: str = "m", code: str = ECHO, **files: str) -> str:
    return site.storage.put(
        f"s3://models/{name}.tar.gz", pack({"code/inference.py": code, "weights": "w", **files})
    )


def count_workers(instance: ObservedInstance) -> int:
    return sum(len(container.workers) for container in instance.containers)


def test_an_instance_becomes_healthy_and_leaves_nothing_behind(site: Site) -> None:
    async def story() -> None:
        url = an_archive(site)
        async with site.opened() as fleet:
            await fleet.start(an_order(url))
            assert [i.phase for i in await fleet.observe("digits")] == [Phase.DOWNLOADING]
            await observed_until(fleet, lambda s: s["i-1"].phase is Phase.LOADING)
            seen = await observed_until(fleet, lambda s: count_workers(s["i-1"]) == 2)

            assert seen["i-1"].state == "healthy"
            assert seen["i-1"].phase is None
            assert site.processes("clary-host", "digits/AllTraffic/i-1")

            await fleet.stop("i-1")
            await fleet.stop("i-1")
            await observed_until(fleet, lambda s: not s)

        assert not list((site.data_dir / "instances").iterdir())
        assert not list((site.run_dir / "i").iterdir())
        assert not site.processes("i-1")

    asyncio.run(story())


def test_starting_twice_gives_one_instance(site: Site) -> None:
    async def story() -> None:
        url = an_archive(site)
        async with site.opened() as fleet:
            await fleet.start(an_order(url))
            await fleet.start(an_order(url))
            await observed_until(fleet, lambda s: s["i-1"].state == "healthy")

            assert len(site.processes("clary-host")) == 1

    asyncio.run(story())


def test_spec_json_tells_the_host_all_it_needs(site: Site) -> None:
    async def story() -> dict[str, Any]:
        url = an_archive(site, **{"code/inference/handler.py": ECHO})
        environment = {
            "SAGEMAKER_PROGRAM": "inference/handler.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
            "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
            "WHERE": "/opt/ml/model/weights",
        }
        async with site.opened() as fleet:
            await fleet.start(
                an_order(url, container={"environment": environment}, startup_timeout_s=77.0)
            )
            await observed_until(fleet, lambda s: s["i-1"].state == "healthy")
            spec = site.data_dir / "instances" / "i-1" / "spec.json"
            assert spec.stat().st_mode & 0o077 == 0
            loaded: dict[str, Any] = json.loads(spec.read_text())
            return loaded

    spec = asyncio.run(story())
    container = spec["containers"][0]

    assert spec["startup_timeout_s"] == 77.0
    assert container["program"] == "inference/handler"
    assert container["workers"] == 1
    assert container["environment"]["WHERE"] == f"{container['model_dir']}/weights"
    assert container["environment"]["AWS_REGION"] == "us-east-1"
    assert container["environment"]["CUDA_VISIBLE_DEVICES"] == ""


def test_a_model_that_does_not_load_fails_with_its_own_words(site: Site) -> None:
    async def story() -> None:
        url = an_archive(site, code="import a_module_that_is_not_there\n")
        async with site.opened(load_attempts=1) as fleet:
            await fleet.start(an_order(url))
            seen = await observed_until(fleet, lambda s: s["i-1"].state == "failed")

            reason = seen["i-1"].reason
            assert reason is not None
            assert reason.startswith(
                "The primary container for production variant AllTraffic did not pass the ping "
                "health check. Please check CloudWatch logs for this endpoint."
            )
            assert "a_module_that_is_not_there" in reason

    asyncio.run(story())


@pytest.mark.parametrize(
    ("url", "container", "words"),
    [
        (
            "s3://models/none.tar.gz",
            {},
            'Failed to download model data for container "primary" from URL: '
            '"s3://models/none.tar.gz". Please ensure that there is an object located at the URL '
            "and that the role passed to CreateModel has permissions to download the object.",
        ),
        ("ftp://x/y", {}, "s3://bucket/key"),
        (None, {"image": "somebody/else"}, "[[runners]]"),
        (None, {"environment": {"SAGEMAKER_PROGRAM": "../x"}}, "SAGEMAKER_PROGRAM"),
        (
            None,
            {"environment": {"SAGEMAKER_SUBMIT_DIRECTORY": "/nowhere/at/all"}},
            "SAGEMAKER_SUBMIT_DIRECTORY",
        ),
    ],
)
def test_what_cannot_be_prepared_fails_with_a_reason(
    site: Site, url: str | None, container: dict[str, Any], words: str
) -> None:
    async def story() -> None:
        async with site.opened() as fleet:
            await fleet.start(an_order(url, container=container))
            seen = await observed_until(fleet, lambda s: s["i-1"].state == "failed")

            assert words in (seen["i-1"].reason or "")

    asyncio.run(story())


def test_a_download_has_a_time_limit(site: Site) -> None:
    async def story() -> None:
        url = an_archive(site)
        site.storage.before_download = asyncio.Event().wait  # type: ignore[assignment]
        async with site.opened() as fleet:
            await fleet.start(an_order(url, download_timeout_s=0.05))
            seen = await observed_until(fleet, lambda s: s["i-1"].state == "failed")

            assert "Failed to download model data" in (seen["i-1"].reason or "")
        assert [p.name for p in (site.data_dir / "artifacts").iterdir()] == []

    asyncio.run(story())


def test_an_instance_can_be_stopped_while_it_downloads(site: Site) -> None:
    async def story() -> None:
        url = an_archive(site)
        site.storage.before_download = asyncio.Event().wait  # type: ignore[assignment]
        async with site.opened() as fleet:
            await fleet.start(an_order(url))
            await observed_until(fleet, lambda s: site.storage.downloads or s)
            await fleet.stop("i-1")
            await observed_until(fleet, lambda s: not s)

        assert not list((site.data_dir / "instances").iterdir())

    asyncio.run(story())


def test_code_may_come_from_an_archive_of_its_own(site: Site) -> None:
    async def story() -> None:
        model = site.storage.put("s3://models/weights.tar.gz", pack({"weights": "w"}))
        source = site.storage.put("s3://code/sourcedir.tar.gz", pack({"serve.py": ECHO}))
        environment = {"SAGEMAKER_SUBMIT_DIRECTORY": source, "SAGEMAKER_PROGRAM": "serve.py"}
        async with site.opened() as fleet:
            await fleet.start(an_order(model, container={"environment": environment}))
            await observed_until(fleet, lambda s: s["i-1"].state == "healthy")

            instance = site.data_dir / "instances" / "i-1"
            assert (instance / "model" / "weights").read_text() == "w"
            assert (instance / "code" / "serve.py").read_text() == ECHO

    asyncio.run(story())


def test_a_server_of_the_users_own_listens_where_it_is_told(site: Site) -> None:
    async def story() -> None:
        server = (
            "async def app(scope, receive, send):\n"
            "    if scope['type'] == 'http':\n"
            "        await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
            "        await send({'type': 'http.response.body', 'body': b'ok'})\n"
        )
        url = site.storage.put("s3://models/server.tar.gz", pack({"server.py": server}))
        container = {"image": "clary/server", "environment": {"CLARY_APP": "server:app"}}
        async with site.opened() as fleet:
            await fleet.start(an_order(url, container=container))
            seen = await observed_until(fleet, lambda s: s["i-1"].state == "healthy")

            (address,) = seen["i-1"].containers[0].workers
            assert address.startswith("http:127.0.0.1:")

    asyncio.run(story())


def test_running_instances_are_adopted_as_they_are(site: Site) -> None:
    async def story() -> None:
        url = an_archive(site)
        async with site.opened() as fleet:
            await fleet.start(an_order(url))
            first = await observed_until(fleet, lambda s: count_workers(s["i-1"]) == 2)
        pids = site.processes("i-1")
        assert pids

        async with site.opened() as fleet:
            # At once: what is published after a restart must not lack what runs.
            assert (await fleet.observe("digits"))[0] == first["i-1"]
            await fleet.start(an_order(url))
            assert sorted(site.processes("i-1")) == sorted(pids)
            await fleet.stop("i-1")
            await observed_until(fleet, lambda s: not s)
        assert not site.processes("i-1")

    asyncio.run(story())


def test_workers_of_a_killed_host_serve_until_the_instance_is_stopped(site: Site) -> None:
    async def story() -> None:
        url = an_archive(site)
        async with site.opened() as fleet:
            await fleet.start(an_order(url))
            before = await observed_until(fleet, lambda s: count_workers(s["i-1"]) == 2)
            (host,) = site.processes("clary-host", "i-1")
            os.kill(host, signal.SIGKILL)
            after = await observed_until(fleet, lambda s: s["i-1"].state == "lost")

            assert after["i-1"].containers == before["i-1"].containers
            assert "SIGKILL" in (after["i-1"].reason or "")
            assert site.processes("clary-worker", "i-1")

            await fleet.stop("i-1")
            await observed_until(fleet, lambda s: not s)
        assert not site.processes("i-1")

    asyncio.run(story())


def test_processes_of_another_life_are_killed_before_their_successors_start(site: Site) -> None:
    async def story() -> None:
        url = an_archive(site, code=STUBBORN)
        async with site.opened(stop_timeout_s=60.0) as fleet:
            await fleet.start(an_order(url))
            await observed_until(fleet, lambda s: count_workers(s["i-1"]) == 2)
        hosts = site.processes("clary-host")
        site.kill_supervisor()
        site.start_supervisor()
        assert site.processes("clary-host") == hosts

        async with site.opened() as fleet:
            assert await fleet.observe("digits") == ()
            assert not site.processes("clary-host") + site.processes("clary-worker")
            await fleet.start(an_order(url))
            await observed_until(fleet, lambda s: s["i-1"].state == "healthy")

    asyncio.run(story())


def test_what_no_record_knows_is_stopped_and_removed(site: Site) -> None:
    async def story() -> None:
        url = an_archive(site)
        async with site.opened() as fleet:
            await fleet.start(an_order(url))
            await observed_until(fleet, lambda s: s["i-1"].state == "healthy")
            (site.data_dir / "instances" / "i-0").mkdir()

            await fleet.discard(fleet.ids())

            await observed_until(fleet, lambda s: not s)
            assert fleet.ids() == set()

    asyncio.run(story())


def test_a_share_that_is_just_given_back_is_waited_for(site: Site) -> None:
    async def story() -> None:
        url = an_archive(site)
        cores = len(os.sched_getaffinity(0))
        big = "ml.t2.medium" if cores < 4 else "ml.m5.xlarge"
        async with site.opened(capacity="strict", max_workers=1) as fleet:
            count = 0
            while True:  # fill the machine
                count += 1
                await fleet.start(an_order(url, f"i-{count}", instance_type=big))
                seen = await observed_until(
                    fleet,
                    lambda s: all(i.state in ("healthy", "failed") for i in s.values()),
                )
                if seen[f"i-{count}"].state is InstanceState.FAILED:
                    break
            assert "InsufficientInstanceCapacity" in (seen[f"i-{count}"].reason or "")

            await fleet.stop("i-1")
            await fleet.start(an_order(url, "i-new", instance_type=big))
            await observed_until(fleet, lambda s: "i-1" not in s and s["i-new"].state == "healthy")

    asyncio.run(story())


def test_a_stubborn_worker_is_killed_after_the_stop_limit(site: Site) -> None:
    async def story() -> None:
        url = an_archive(site, code=STUBBORN)
        async with site.opened(stop_timeout_s=0.5) as fleet:
            await fleet.start(an_order(url))
            await observed_until(fleet, lambda s: s["i-1"].state == "healthy")
            await fleet.stop("i-1")
            await observed_until(fleet, lambda s: not s)
        wait_for(lambda: not site.processes("i-1"), what="the worker's end")

    asyncio.run(story())
