"""The commands against a real server."""

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from load import Load
from server import CLARY, Server, wait_for

ECHO = """
def model_fn(model_dir):
    print("the model is loaded")
    return None

def input_fn(body, content_type):
    return body, content_type

def predict_fn(data, model):
    body, content_type = data
    if body == "boom":
        raise RuntimeError("it went boom")
    return {"body": body if isinstance(body, str) else body.decode(), "type": content_type}
"""

ANSWER = """
def model_fn(model_dir): ...
def input_fn(body, content_type): ...
def predict_fn(data, model): return {}
"""


def a_directory(root: Path, name: str, **files: str) -> Path:
    directory = root / name
    directory.mkdir()
    for file, text in files.items():
        (directory / file.replace("__", ".")).write_text(text)
    return directory


def test_deploy_invoke_and_rm(server: Server, tmp_path: Path) -> None:
    directory = a_directory(tmp_path, "echo", inference__py=ECHO)
    deployed = server.cli("deploy", str(directory), "--env", "A=b")
    assert "packing" in deployed.stderr
    assert deployed.stdout.startswith("clary invoke echo")
    answer = server.cli("invoke", "echo", "-d", '{"x": 1}').stdout
    assert json.loads(answer) == {"body": '{"x": 1}', "type": "application/json"}

    model = server.sagemaker.list_models(NameContains="echo-")["Models"]
    assert len(model) == 1
    described = server.sagemaker.describe_model(ModelName=model[0]["ModelName"])
    assert described["PrimaryContainer"]["Environment"] == {"A": "b"}

    listed = json.loads(server.cli("ls", "--json").stdout)
    assert "echo" in [item["EndpointName"] for item in listed]
    assert "InService" in server.cli("ls").stdout
    shown = server.cli("describe", "echo").stdout
    assert "AllTraffic" in shown

    removed = server.cli("rm", "echo").stdout
    assert "deleted endpoint echo" in removed
    assert server.sagemaker.list_models(NameContains="echo-")["Models"] == []
    configs = server.sagemaker.list_endpoint_configs(NameContains="echo-")["EndpointConfigs"]
    assert configs == []


def test_bodies_come_from_text_files_and_pipes(server: Server, tmp_path: Path) -> None:
    server.cli("deploy", str(a_directory(tmp_path, "bodies", inference__py=ECHO)))
    (tmp_path / "rows.csv").write_text("1,2\n")

    def answer(*arguments: str) -> dict[str, str]:
        return dict(json.loads(server.cli("invoke", "bodies", *arguments).stdout))

    assert answer("-d", f"@{tmp_path}/rows.csv") == {"body": "1,2\n", "type": "text/csv"}
    assert answer("-d", "a", "--content-type", "text/plain")["type"] == "text/plain"
    piped = subprocess.run(
        [str(CLARY), "invoke", "bodies", "-d", "-"],
        env=server.environ(),
        input=b"[3]",
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert json.loads(piped.stdout)["body"] == "[3]"
    server.cli("invoke", "bodies", "-d", "[4]", "-o", str(tmp_path / "answer"))
    assert json.loads((tmp_path / "answer").read_text())["body"] == "[4]"


def test_the_models_own_words_reach_the_caller(server: Server, tmp_path: Path) -> None:
    server.cli("deploy", str(a_directory(tmp_path, "raising", inference__py=ECHO)))
    failed = server.cli(
        *("invoke", "raising", "-d", "boom", "--content-type", "text/csv"), check=False
    )
    assert failed.returncode == 1
    assert "the model answered 500" in failed.stderr
    assert "it went boom" in failed.stderr
    assert "clary logs raising" in failed.stderr


def test_a_failed_deployment_shows_reason_and_log(server: Server, tmp_path: Path) -> None:
    source = "print('before the end')\nimport nonsense_module\n"
    directory = a_directory(tmp_path, "broken", inference__py=source)
    failed = server.cli("deploy", str(directory), check=False)
    assert failed.returncode == 1
    assert "No module named 'nonsense_module'" in failed.stderr
    assert "before the end" in failed.stderr
    assert "✗" in failed.stderr
    # The name is not lost to the failed endpoint: the next try replaces it.
    (directory / "inference.py").write_text(ECHO)
    server.cli("deploy", str(directory))
    server.cli("rm", "broken")


def test_deploying_again_updates_the_endpoint(server: Server, tmp_path: Path) -> None:
    directory = a_directory(tmp_path, "twice", inference__py=ANSWER.format(1))
    server.cli("deploy", str(directory))
    assert server.cli("invoke", "twice", "-d", "[0]").stdout == "1"
    (directory / "inference.py").write_text(ANSWER.format(2))
    with Load(server.port, "twice") as load:
        again = server.cli("deploy", str(directory))
    assert load.failures == []
    assert "updating" in again.stderr
    assert server.cli("invoke", "twice", "-d", "[0]").stdout == "2"
    assert len(server.sagemaker.list_models(NameContains="twice-")["Models"]) == 1


def test_an_update_that_fails_leaves_the_endpoint_as_it_was(server: Server, tmp_path: Path) -> None:
    directory = a_directory(tmp_path, "steady", inference__py=ECHO)
    server.cli("deploy", str(directory))
    (directory / "inference.py").write_text("import nonsense_module\n")
    failed = server.cli("deploy", str(directory), check=False)
    assert failed.returncode == 1
    assert "No module named 'nonsense_module'" in failed.stderr
    assert "steady serves as before" in failed.stderr
    assert (
        "fine" in server.cli("invoke", "steady", "-d", "fine", "--content-type", "text/csv").stdout
    )
    assert len(server.sagemaker.list_models(NameContains="steady-")["Models"]) == 1


def test_what_somebody_else_made_stays(server: Server, tmp_path: Path) -> None:
    server.deploy("foreign", {"code/inference.py": ECHO})
    server.cli("rm", "foreign")
    assert server.sagemaker.describe_model(ModelName="foreign")["ModelName"] == "foreign"


def test_logs_are_followed_as_they_come(server: Server, tmp_path: Path) -> None:
    source = ECHO + "\n_predict = predict_fn\ndef predict_fn(data, model):\n"
    source += "    print('asked', data[0], flush=True)\n    return _predict(data, model)\n"
    server.cli("deploy", str(a_directory(tmp_path, "talking", inference__py=source)))
    assert "the model is loaded" in server.cli("logs", "talking").stdout
    with subprocess.Popen(
        [str(CLARY), "logs", "talking", "-f", "-n", "0"],
        env=server.environ(),
        stdout=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        os.set_blocking(following.stdout.fileno(), False)
        seen: list[str] = []

        def asked() -> bool:
            server.invoke("talking", "hello", "text/csv")
            assert following.stdout is not None
            seen.extend(following.stdout.readlines())
            return any("asked hello" in line for line in seen)

        try:
            wait_for(asked, timeout_s=20, what="the line in the followed log", poll_s=0.1)
        finally:
            following.terminate()


def test_a_serverless_endpoint_is_deployed_called_and_updated(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "inference.py").write_text(ECHO)
    options = ("deploy", str(tmp_path), "--name", "seldom", "--serverless", "--memory", "1024")
    server.cli(*options)
    answer = json.loads(server.cli("invoke", "seldom", "-d", "one").stdout)
    assert answer["body"] == "one"
    server.cli(*options, "--max-concurrency", "2")
    (variant,) = server.sagemaker.describe_endpoint(EndpointName="seldom")["ProductionVariants"]
    assert variant["CurrentServerlessConfig"] == {"MemorySizeInMB": 1024, "MaxConcurrency": 2}
    refused = server.cli(*options, "--instances", "2", check=False)
    assert refused.returncode == 2
    assert "--serverless or --instances" in refused.stderr
    server.cli("rm", "seldom")


def test_watch_deploys_again_and_outlives_a_broken_file(server: Server, tmp_path: Path) -> None:
    def handler(answer: str) -> str:
        return f"def model_fn(d): ...\ndef predict_fn(x, m): return {answer}\n"

    directory = a_directory(tmp_path, "watched", inference__py=handler("1"))
    output = tmp_path / "watch.out"

    def answers(expected: str) -> bool:
        done = server.cli("invoke", "watched", "-d", "[0]", check=False)
        return done.stdout == expected

    def watching(times: int) -> bool:
        return output.read_text().count("watching") >= times

    with output.open("w") as out:
        command = subprocess.Popen(
            [str(CLARY), "deploy", str(directory), "--watch"],
            env=server.environ(),
            stdout=out,
            stderr=out,
        )
    try:
        wait_for(lambda: watching(1), timeout_s=30, what="the first deployment")
        assert answers("1")
        (directory / "inference.py").write_text("this is no python")
        wait_for(lambda: watching(2), timeout_s=30, what="the failure to be reported")
        assert "SyntaxError" in output.read_text()
        (directory / "inference.py").write_text(handler("2"))
        wait_for(lambda: watching(3), timeout_s=30, what="the second deployment")
        assert answers("2")
    finally:
        command.terminate()
        command.wait(10)


def test_no_wait_returns_while_the_endpoint_is_created(server: Server, tmp_path: Path) -> None:
    directory = a_directory(tmp_path, "later", inference__py=ECHO)
    done = server.cli("deploy", str(directory), "--no-wait")
    assert done.stdout == "clary describe later\n"
    server.wait_for_status("later", "InService")


def test_unknown_names_are_one_line(server: Server) -> None:
    for command in ("describe", "rm", "invoke", "logs"):
        done = server.cli(command, "nobody", check=False)
        assert done.returncode == 1, command
        assert "nobody" in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_doctor_finds_nothing_wrong_with_a_good_server(server: Server) -> None:
    done = server.cli("doctor", "--data-dir", str(server.data_dir))
    assert "fail" not in done.stdout
    assert "agrees with the server's" in done.stdout
    assert f"{server.url} answers" in done.stdout


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, CLARY_AUTH="on")
    made = server.cli("keys", "create", "--data-dir", str(server.data_dir), "--for", "ada").stdout
    keys = dict(line.split("=", 1) for line in made.splitlines())
    server.access_key = keys["AWS_ACCESS_KEY_ID"]
    server.secret_key = keys["AWS_SECRET_ACCESS_KEY"]
    with server:
        yield server


def test_keys_open_a_server_with_authentication(locked: Server, tmp_path: Path) -> None:
    data = ("--data-dir", str(locked.data_dir))
    assert locked.cli("ls").returncode == 0
    assert locked.sts.get_caller_identity()["Arn"].endswith("/ada")
    lines = locked.cli("env", *data).stdout
    assert f"export AWS_ACCESS_KEY_ID={locked.access_key}\n" in lines
    listed = locked.cli("keys", "list", *data).stdout
    assert locked.access_key in listed
    assert locked.secret_key not in listed

    refused = locked.cli("ls", check=False, AWS_SECRET_ACCESS_KEY="wrong")
    assert refused.returncode == 1
    assert "signature we calculated does not match" in refused.stderr

    locked.cli("deploy", str(a_directory(tmp_path, "behind", inference__py=ECHO)))
    assert "the model is loaded" in locked.cli("logs", "behind").stdout

    locked.cli("keys", "delete", locked.access_key, *data)

    def shut_out() -> bool:
        return locked.cli("ls", check=False).returncode == 1

    wait_for(shut_out, what="the deleted key to be refused")


def test_without_a_server_every_client_command_says_what_to_do(tmp_path: Path) -> None:
    nobody = Server(tmp_path)
    a_directory(tmp_path, "m", inference__py=ECHO)
    for command in (
        ["ls"],
        ["describe", "x"],
        ["invoke", "x"],
        ["logs", "x"],
        ["rm", "x"],
        ["deploy", "m"],
    ):
        done = nobody.cli(*command, check=False)
        assert done.returncode == 1, command
        assert nobody.url in done.stderr
        assert "clary up" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--host", "0.0.0.0"], "not a loopback address"),
        (["up", "--port", "70000"], "not between 0 and 65535"),
        (["up", "--config", "missing.toml"], "settings file cannot be read"),
        (["env", "--shell", "zsh"], "is not one of"),
        (["deploy", "missing"], "does not exist"),
        (["deploy", ".", "--app", "a:b", "--command", "c"], "not both"),
        (["deploy", ".", "--env", "novalue"], "KEY=VALUE"),
        (["deploy", "."], "inference.py"),
        (["nonsense"], "nonsense"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_end_with_status_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "model.bin").touch()
    done = Server(tmp_path).cli(*arguments, check=False)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_named(server: Server, tmp_path: Path) -> None:
    other = Server(tmp_path)
    done = other.cli(
        *("up", "--port", str(server.port), "--data-dir", str(tmp_path / "data")), check=False
    )
    assert done.returncode != 0
    assert str(server.port) in done.stderr
    assert "Traceback" not in done.stderr


def test_version_is_printed(tmp_path: Path) -> None:
    done = Server(tmp_path).cli("version")
    assert done.stdout.startswith("clary ")


def test_the_demo_shows_it_all_and_leaves_nothing(tmp_path: Path) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    done = Server(tmp_path).cli("demo", TMPDIR=str(scratch), timeout_s=100)
    for word in ("predicted", "in truth", "%", "p50", "p99", "positive", "sentiment", "InService"):
        assert word in done.stdout, word
    assert list(scratch.iterdir()) == []


def test_env_knows_the_port_that_a_server_was_given(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CLARY_")}
    command = [str(CLARY), "up", "--port", "0", "--data-dir", str(data_dir)]
    with (tmp_path / "server.out").open("wb") as output:
        process = subprocess.Popen(command, env=environ, stdout=output, stderr=output)

    def listens() -> bool:
        assert process.poll() is None, (tmp_path / "server.out").read_text()
        asked = [str(CLARY), "env", "--data-dir", str(data_dir)]
        lines = subprocess.run(asked, env=environ, capture_output=True, text=True).stdout
        (url,) = (line.partition("=")[2] for line in lines.splitlines() if "ENDPOINT_URL" in line)
        try:
            with urllib.request.urlopen(f"{url}/_clary/health", timeout=2) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    try:
        wait_for(listens, timeout_s=20, what="the server where `clary env` says")
    finally:
        process.terminate()
        process.wait(45)
