"""Multi-model endpoints with stock boto3."""

import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from clary.worker.memory import memory_kib
from handlers import ECHO
from multi_models import NAMER, MultiModelEndpoint
from server import Server, descendants, process_table, wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    settings = {
        "CLARY_FLEET_MULTI_MODEL_MAX_MODELS": "4",
        "CLARY_FLEET_MULTI_MODEL_MEMORY_MIB": "300",
    }
    with Server(tmp_path_factory.mktemp("models"), **settings) as running:
        yield running


@pytest.fixture(scope="module")
def many(server):
    return MultiModelEndpoint(server, "many").create(
        environment={"CLARY_PINNED_MODELS": "pinned.tar.gz"}
    )


def refused(endpoint, target, **more):
    """Call a model that does not answer; return the error."""
    with pytest.raises(ClientError) as caught:
        endpoint.server.invoke(endpoint.name, b"{}", TargetModel=target, **more)
    return caught.value.response


def test_models_are_loaded_by_their_first_call_and_stay(many):
    first, second = many.put_named("a.tar.gz"), many.put_named("folder/b.tar.gz", "b")
    answer = many.invoke(first)
    assert answer["model"] == "a"
    assert many.invoke(second)["model"] == "b"
    assert many.invoke(first) == answer  # the same process
    row = many.models()[first]
    assert row["loads"] == 1
    assert row["memory_mib"] > 0
    assert "a.tar.gz" in many.server.cli("describe", "many").stdout


def test_models_are_measured(many):
    slow = NAMER + "\nimport time\ntime.sleep(0.05)\n"
    name = many.put("measured.tar.gz", {"code/inference.py": slow, "code/name.txt": "measured"})
    for _ in range(4):
        many.invoke(name)
    cloudwatch = many.server.client("cloudwatch")
    end = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)

    def sums():
        found = {}
        for metric in ("ModelCacheHit", "ModelLoadingTime", "ModelDownloadingTime"):
            points = cloudwatch.get_metric_statistics(
                Namespace="AWS/SageMaker",
                MetricName=metric,
                Dimensions=[
                    {"Name": "EndpointName", "Value": "many"},
                    {"Name": "VariantName", "Value": "AllTraffic"},
                ],
                StartTime=end - timedelta(minutes=10),
                EndTime=end + timedelta(minutes=5),
                Period=900,
                Statistics=["Sum", "SampleCount"],
            )["Datapoints"]
            found[metric] = points[0] if points else None
        return found

    wait_for(lambda: all(sums().values()), what="metrics of models")
    # Earlier tests' calls count too, so that only the hits tell when this one's are all in.
    wait_for(lambda: sums()["ModelCacheHit"]["Sum"] >= 3, what="the calls of a loaded model")
    found = sums()
    assert found["ModelLoadingTime"]["Sum"] >= 50_000  # microseconds
    hits = found["ModelCacheHit"]
    assert hits["Sum"] < hits["SampleCount"]


def test_each_model_has_code_of_its_own(many):
    for name in ("x", "y"):
        many.put(
            f"own-{name}.tar.gz",
            {
                "code/inference.py": "import helper, json\n"
                "def model_fn(d): return helper.NAME\n"
                "def predict_fn(data, model): return model\n"
                "def output_fn(result, accept): return json.dumps(result)\n",
                "code/helper.py": f"NAME = {name!r}\n",
            },
        )
    assert many.invoke("own-x.tar.gz") == "x"
    assert many.invoke("own-y.tar.gz") == "y"
    assert many.invoke("own-x.tar.gz") == "x"


def test_concurrent_first_calls_load_once(many):
    target = many.put_named("at-once.tar.gz")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: many.invoke(target), range(8)))
    assert len({answer["pid"] for answer in answers}) == 1
    assert many.models()[target]["loads"] == 1
    assert wait_for(lambda: many.models()[target]["calls"] == 8, what="the calls")


def test_the_least_recently_used_model_goes_and_a_pinned_one_stays(many):
    pinned = many.put_named("pinned.tar.gz")
    targets = [many.put_named(f"lru-{n}.tar.gz") for n in range(4)]
    for target in (pinned, *targets[:3]):
        many.invoke(target)
    assert many.loaded() == {pinned, *targets[:3]}
    many.invoke(targets[0])  # now the second is the oldest
    many.invoke(targets[3])
    assert many.loaded() == {pinned, targets[0], targets[2], targets[3]}
    assert many.models()[targets[1]]["evictions"] == 1
    assert many.invoke(targets[1])["model"] == "lru-1"


def test_a_model_with_an_open_call_is_not_unloaded(many):
    slow = many.put(
        "slow.tar.gz",
        {
            "code/inference.py": "import time\ndef model_fn(d): return None\n"
            "def predict_fn(data, model):\n    time.sleep(data[0])\n    return data\n"
        },
    )
    many.invoke(slow, b"[0]")
    answers = []
    call = threading.Thread(target=lambda: answers.append(many.invoke(slow, b"[1.5]")))
    call.start()
    try:
        wait_for(lambda: many.told(slow, "calls") == 2, what="the call")
        for n in range(5):
            many.invoke(many.put_named(f"pushes-{n}.tar.gz"))
            assert slow in many.loaded() or not call.is_alive()
    finally:
        call.join()
    assert answers == [[1.5]]


@pytest.mark.parametrize("target", ["../many/a.tar.gz", "/a.tar.gz", "folder//a", "./a", "folder/"])
def test_a_target_that_leads_elsewhere_is_refused(many, target):
    error = refused(many, target)["Error"]
    assert error["Code"] == "ValidationError"
    assert "TargetModel" in error["Message"]


def test_a_target_is_needed_here_and_nowhere_else(many):
    with pytest.raises(ClientError, match="TargetModel parameter is required") as caught:
        many.server.invoke("many")
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    many.server.deploy("single", {"code/inference.py": ECHO})
    with pytest.raises(
        ClientError, match="only allowed for endpoints with a multi-model"
    ) as caught:
        many.server.invoke("single", TargetModel="a.tar.gz")
    assert caught.value.response["Error"]["Code"] == "ValidationError"


def test_bad_models_say_why_and_leave_their_neighbours_alone(many):
    good = many.put_named("good.tar.gz")
    before = many.invoke(good)
    missing = refused(many, "nobody.tar.gz")["Error"]
    assert missing["Code"] == "ValidationError"
    assert "nobody.tar.gz" in missing["Message"]
    corrupt = refused(many, many.put("corrupt.tar.gz", b"\x1f\x8b no archive"))
    assert corrupt["Error"]["Code"] == "ModelError"
    assert "corrupt.tar.gz cannot be loaded" in corrupt["OriginalMessage"]
    failing = refused(
        many, many.put("failing.tar.gz", {"code/inference.py": "raise RuntimeError('no weights')"})
    )
    assert "RuntimeError: no weights" in failing["OriginalMessage"]
    dying = refused(
        many, many.put("dying.tar.gz", {"code/inference.py": "import os; os.kill(os.getpid(), 9)"})
    )
    assert "SIGKILL" in dying["OriginalMessage"]
    large = refused(
        many,
        many.put(
            "large.tar.gz",
            {
                "code/inference.py": "def model_fn(d): return bytearray(400 << 20)\n"
                "def predict_fn(data, model): return 1\n"
            },
        ),
    )
    assert "does not fit into the 300 MiB" in large["OriginalMessage"]
    # A mended model is loaded by the next call.
    assert many.invoke(many.put_named("failing.tar.gz"))["model"] == "failing"
    wait_for(lambda: many.invoke(good)["model"] == before["model"], what="the good one")


def test_a_loaded_model_outlives_its_object_and_keeps_its_content(many):
    target = many.put_named("changes.tar.gz", "before")
    assert many.invoke(target)["model"] == "before"
    many.put_named(target, "after")
    assert many.invoke(target)["model"] == "before"
    many.server.s3.delete_object(Bucket="models", Key=f"many/{target}")
    assert many.invoke(target)["model"] == "before"
    for n in range(4):  # unloads it
        many.invoke(many.put_named(f"others-{n}.tar.gz"))
    assert refused(many, target)["Error"]["Code"] == "ValidationError"
    many.put_named(target, "after")
    assert many.invoke(target)["model"] == "after"


def test_a_killed_model_is_loaded_again_by_the_next_call(many):
    target = many.put_named("killed.tar.gz")
    pid = many.invoke(target)["pid"]
    os.kill(pid, signal.SIGKILL)
    # A call that comes before anybody has noticed is lost with its process, as anywhere else.
    wait_for(lambda: target not in many.loaded(), what="the death to be noticed")
    answer = many.invoke(target)
    assert answer["model"] == "killed"
    assert answer["pid"] != pid


def test_warm_calls_need_no_control_and_cold_ones_wait_for_it(many):
    warm, cold = many.put_named("warm.tar.gz"), many.put_named("cold.tar.gz")
    before = many.invoke(warm)
    (control,) = many.server.pids("clary-control")
    os.kill(control, signal.SIGSTOP)
    try:
        for _ in range(20):
            assert many.invoke(warm) == before
    finally:
        os.kill(control, signal.SIGKILL)
    assert many.invoke(cold)["model"] == "cold"
    assert many.invoke(warm) == before


def test_models_are_loaded_anew_after_a_restart_of_the_server(tmp_path):
    with Server(tmp_path) as server:
        endpoint = MultiModelEndpoint(server, "again").create()
        target = endpoint.put_named("a.tar.gz")
        before = endpoint.invoke(target)
        server.stop()
        server.start()
        after = endpoint.invoke(target)
        assert after["model"] == "a"
        assert after["pid"] != before["pid"]


def test_s3_away_while_loading_is_said_and_harms_no_neighbour(tmp_path):
    with (
        Server(tmp_path / "s3") as storage,
        Server(
            tmp_path / "server",
            CLARY_STORAGE_S3_ENDPOINT_URL=storage.url,
            CLARY_FLEET_MODEL_LOAD_TIMEOUT_S="3",
        ) as server,
    ):
        endpoint = MultiModelEndpoint(server, "far", storage=storage).create()
        warm, cold = endpoint.put_named("warm.tar.gz"), endpoint.put_named("cold.tar.gz")
        before = endpoint.invoke(warm)
        storage.stop()
        with ThreadPoolExecutor(2) as pool:
            colds = [pool.submit(refused, endpoint, cold) for _ in range(2)]
            while not all(call.done() for call in colds):
                assert endpoint.invoke(warm) == before
        for call in colds:
            error = call.result()
            assert error["Error"]["Code"] == "ModelError"
            assert "cold.tar.gz cannot be loaded" in error["OriginalMessage"]
            assert "within 3 s: The S3 of storage.s3_endpoint_url" in error["OriginalMessage"]
        assert endpoint.loaded() == {warm}
        storage.start()
        assert endpoint.invoke(cold)["model"] == "cold"
        assert endpoint.invoke(warm) == before


def test_a_load_goes_on_when_s3_comes_back(tmp_path):
    with Server(tmp_path) as server:
        endpoint = MultiModelEndpoint(server, "back").create()
        warm, cold = endpoint.put_named("warm.tar.gz"), endpoint.put_named("cold.tar.gz")
        before = endpoint.invoke(warm)
        (objects,) = server.pids("clary-objects")
        os.kill(objects, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(1) as pool:
                call = pool.submit(endpoint.invoke, cold)
                wait_for(lambda: endpoint.told(cold, "state") == "loading", what="the load")
                assert endpoint.invoke(warm) == before
                assert not call.done()
                os.kill(objects, signal.SIGKILL)  # another one takes its place
                assert call.result()["model"] == "cold"
        finally:
            if objects in server.pids("clary-objects"):
                os.kill(objects, signal.SIGCONT)
        assert endpoint.models()[cold]["loads"] == 1


def test_without_a_cache_a_model_is_unloaded_after_its_call(server):
    endpoint = MultiModelEndpoint(server, "uncached").create(
        MultiModelConfig={"ModelCacheSetting": "Disabled"}
    )
    target = endpoint.put_named("a.tar.gz")
    first = endpoint.invoke(target)
    wait_for(lambda: not endpoint.loaded(), what="the model to be unloaded")
    endpoint.put_named(target, "new")
    second = endpoint.invoke(target)
    assert (first["model"], second["model"]) == ("a", "new")


def test_a_model_that_takes_long_to_load_is_ready_later(tmp_path):
    with Server(tmp_path, CLARY_ROUTER_INVOCATION_TIMEOUT_S="1") as server:
        endpoint = MultiModelEndpoint(server, "late").create()
        target = endpoint.put(
            "late.tar.gz",
            {
                "code/inference.py": "import time\n"
                "def model_fn(d): time.sleep(2.5)\ndef predict_fn(data, model): return 7\n"
            },
        )
        answer = refused(endpoint, target)
        assert answer["Error"]["Code"] == "ModelNotReadyException"
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 429

        def is_ready():
            try:
                return endpoint.invoke(target) == 7
            except ClientError:
                return False

        wait_for(is_ready, what="the model to be ready")
        assert endpoint.models()[target]["loads"] == 1


def test_several_instances_share_the_models(tmp_path):
    with Server(tmp_path) as server:
        endpoint = MultiModelEndpoint(server, "wide").create(count=2)
        targets = [endpoint.put_named(f"m{n}.tar.gz") for n in range(4)]
        pids = {target: endpoint.invoke(target)["pid"] for target in targets}
        assert all(endpoint.invoke(target)["pid"] == pids[target] for target in targets * 2)
        assert len({row["instance"] for row in endpoint.models().values()}) == 2


WEIGHTY = """
import os

def model_fn(model_dir):
    with open(os.path.join(model_dir, "name.txt")) as file:
        return file.read(), b"w" * (8 << 20)

def predict_fn(data, model):
    return model[0]

def output_fn(prediction, accept):
    return '"' + prediction + '"', "application/json"
"""


def lru_hits(trace, held):
    """Count the hits of a cache of so many models that forgets the least recently used."""
    cache, hits = {}, 0
    for n in trace:
        hits += cache.pop(n, None) is not None
        cache[n] = True
        if len(cache) > held:
            del cache[next(iter(cache))]
    return hits


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_thousand_models_with_zipf_traffic_behave_like_an_lru(tmp_path):
    held, calls = 50, 700
    with Server(tmp_path) as server:
        endpoint = MultiModelEndpoint(server, "zipf").create()
        for n in range(1000):
            endpoint.put(f"m{n}.tar.gz", {"code/inference.py": WEIGHTY, "name.txt": f"m{n}"})
        # What fifty of them take, the process that waits for the next one among it.
        for n in range(950, 950 + held):
            assert endpoint.invoke(f"m{n}.tar.gz") == f"m{n}"
        (host,) = server.pids("clary-host", "zipf/")

        def taken_mib():
            workers = descendants(process_table(), {host})
            return sum(memory_kib(pid) for pid in workers) / 1024

        limit_mib = round(taken_mib())
        server.stop()
        server.environment["CLARY_FLEET_MULTI_MODEL_MEMORY_MIB"] = str(limit_mib)
        server.start()
        (host,) = wait_for(lambda: server.pids("clary-host", "zipf/"), what="the instance")

        weights = [1 / (n + 1) for n in range(1000)]
        trace = random.Random(7).choices(range(1000), weights, k=calls)
        started = time.monotonic()
        memory, told, loaded = [], [], []
        for number, n in enumerate(trace):
            assert endpoint.invoke(f"m{n}.tar.gz") == f"m{n}"
            if number >= calls // 3 and number % 50 == 0:
                memory.append(taken_mib())
                told.append(sum(row["memory_mib"] for row in endpoint.models().values()))
                loaded.append(len(endpoint.loaded()))
        loads = sum(row["loads"] for row in endpoint.models().values())
        simulated = lru_hits(trace, held) / calls
        print(
            f"hit rate {1 - loads / calls:.4f}, simulated {simulated:.4f}; "
            f"{loads} loads and {calls} calls in {time.monotonic() - started:.0f} s; limit "
            f"{limit_mib} MiB, taken {min(memory):.0f} to {max(memory):.0f} MiB, "
            f"{min(loaded)} to {max(loaded)} models"
        )
        assert abs(1 - loads / calls - simulated) < 0.02
        assert max(told) <= limit_mib
        assert max(memory) < 1.1 * limit_mib
        assert max(memory) < 1.15 * min(memory)


SERVER = Path(__file__).parent / "multi_model_server.py"


def test_a_server_of_the_users_own_loads_and_unloads_by_the_multi_model_api(server):
    endpoint = MultiModelEndpoint(server, "served")
    endpoint.create(
        image="clary/server:1",
        environment={
            "CLARY_COMMAND": f"python {SERVER}",
            "MAX_LOADED": "2",
        },
    )
    targets = [endpoint.put(f"m{n}.tar.gz", {"name.txt": f"m{n}"}) for n in range(4)]
    for target in targets * 2:
        answer = endpoint.invoke(target)
        assert answer["model"] == target.partition(".")[0]
        assert answer["multi_model"] == "true"
        assert answer["target"] == target
    assert len(endpoint.loaded()) == 2  # 507 for a third: the oldest goes
    # The server forgets one by itself: 404, and it is loaded again.
    assert endpoint.invoke(targets[3], b'{"forget": true}')["model"] == "m3"
    assert endpoint.invoke(targets[3])["model"] == "m3"
    # No memory for a call: another one goes, and the call is made again.
    assert endpoint.invoke(targets[3], b'{"needs_room": true}')["model"] == "m3"
    failing = refused(endpoint, endpoint.put("bad.tar.gz", {"bad": "1"}))
    assert "answered 500 to POST /models" in failing["OriginalMessage"]
    (control,) = server.pids("clary-control")
    os.kill(control, signal.SIGKILL)
    assert endpoint.invoke(targets[3])["model"] == "m3"
