import shlex
import subprocess
from pathlib import Path

import pytest

from clary.errors import PermanentError
from clary.fleet.runners import Runner, choose_runner
from clary.settings import RunnerSettings

ECR = "246618743249.dkr.ecr.us-west-2.amazonaws.com"


def choose(
    image: str,
    *rows: RunnerSettings,
    environment: dict[str, str] | None = None,
    has_program: bool = False,
) -> Runner:
    return choose_runner(
        image, environment or {}, rows, base_python="/base/python", has_program=has_program
    )


@pytest.mark.parametrize(
    "image",
    [
        f"{ECR}/sagemaker-scikit-learn:1.2-1-cpu-py3",
        f"{ECR}/sagemaker-xgboost:1.7-1",
        "763104351884.dkr.ecr.cn-north-1.amazonaws.com.cn/pytorch-inference:2.1-cpu",
        "763104351884.dkr.ecr.eu-west-1.amazonaws.com/huggingface-pytorch-inference:2",
        "pytorch-inference-graviton:2.1",
        "sagemaker-scikit-learn",
        "clary/python:latest",
        "clary/python3.12",
    ],
)
def test_framework_images_run_handlers_with_the_base_interpreter(image: str) -> None:
    runner = choose(image)

    assert (runner.style, runner.python) == ("handler", "/base/python")


def test_an_image_that_only_resembles_a_framework_is_not_taken_for_it() -> None:
    with pytest.raises(PermanentError):
        choose("evil.example/x-pytorch-inference-2:1")


def test_an_interpreter_may_be_named_relative_to_where_the_server_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    for named, meant in (
        ("venv/bin/python", f"{tmp_path}/venv/bin/python"),
        ("~/venv/bin/python", "/home/ada/venv/bin/python"),
    ):
        assert choose("mine:1", RunnerSettings(match="mine:1", python=named)).python == meant


@pytest.mark.parametrize(
    "match",
    ["mine:1", "mine*", "m?ne:1", r"/^mine:\d$/"],
    ids=["exact", "glob", "question mark", "regular expression"],
)
def test_rows_of_the_settings_match_in_three_ways(match: str) -> None:
    row = RunnerSettings(match=match, python="/other/python", environment={"A": "1"}, code="/c")

    runner = choose("mine:1", row)

    assert (runner.python, runner.code, runner.environment) == ("/other/python", "/c", {"A": "1"})


def test_the_first_row_wins_and_built_in_ones_come_last() -> None:
    rows = [
        RunnerSettings(match="clary/*", python="/first"),
        RunnerSettings(match="clary/python", python="/second"),
    ]

    assert choose("clary/python", *rows).python == "/first"


def test_a_server_image_takes_its_app_from_the_model() -> None:
    runner = choose("clary/server:latest", environment={"CLARY_APP": "server:app"})

    assert runner.argv("/env/python") == (
        "/bin/sh",
        "-c",
        'exec /env/python -m uvicorn server:app --host 127.0.0.1 --port "$SAGEMAKER_BIND_TO_PORT"',
    )


def test_a_server_image_takes_its_command_from_the_model() -> None:
    runner = choose("clary/server", environment={"CLARY_COMMAND": "python serve.py --name 'a b'"})

    assert runner.argv("/env/python") == ("/env/python", "serve.py", "--name", "a b")


def test_only_the_port_is_expanded_in_a_command() -> None:
    words = ("printf", "%s\n", "it's $HOME", "p=${SAGEMAKER_BIND_TO_PORT}!", "")
    runner = Runner(style="command", python="", command=words, environment={})

    done = subprocess.run(
        runner.argv("/p"), env={"SAGEMAKER_BIND_TO_PORT": "80 80"}, capture_output=True, text=True
    )

    assert done.stdout == "it's $HOME\np=80 80!\n\n"


def test_a_row_names_the_command_and_the_model_may_name_another() -> None:
    row = RunnerSettings(match="mine", runner="command", command=("./serve",))

    assert choose("mine", row).command == ("./serve",)
    assert choose("mine", row, environment={"CLARY_COMMAND": "./other"}).command == ("./other",)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "CLARY_APP"),
        ({"CLARY_APP": "server"}, "module:attribute"),
        ({"CLARY_APP": "--help:app"}, "module:attribute"),
        ({"CLARY_COMMAND": "python 'x"}, "cannot be split"),
    ],
)
def test_a_server_image_without_a_usable_command_says_so(
    environment: dict[str, str], words: str
) -> None:
    with pytest.raises(PermanentError, match=words):
        choose("clary/server", environment=environment)


def test_an_unknown_image_runs_the_handler_that_the_model_brings() -> None:
    assert choose("somebody/else:1", has_program=True).style == "handler"


def test_an_unknown_image_without_a_handler_says_which_row_to_add() -> None:
    with pytest.raises(PermanentError) as caught:
        choose("somebody/else:1")

    assert "[[runners]]" in caught.value.message
    assert 'match = "somebody/else:1"' in caught.value.message


def test_a_container_row_says_what_to_do_instead() -> None:
    with pytest.raises(PermanentError, match='runner = "command"'):
        choose("mine", RunnerSettings(match="mine", runner="container"))


def test_a_bad_regular_expression_names_the_row() -> None:
    with pytest.raises(PermanentError, match=r"clary\.toml"):
        choose("mine", RunnerSettings(match="/(/"))


def test_shell_words_survive_quoting() -> None:
    words = ("a b", "$(x)", "`y`", "--port=$SAGEMAKER_BIND_TO_PORT")
    runner = Runner(style="command", python="", command=words, environment={})

    script = runner.argv("/p")[2].removeprefix("exec ")

    assert shlex.split(script) == [*words[:3], "--port=$SAGEMAKER_BIND_TO_PORT"]
