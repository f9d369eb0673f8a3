"""What is asked for, and the names that follow from it."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from clary.cli.deployment import (
    Deployment,
    Serverless,
    check_entry_point,
    endpoint_name,
    name_prefix,
    parse_variables,
    resource_name,
)
from clary.cli.failure import CommandFailed

NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
NOW = datetime(2026, 3, 4, 5, 6, 7, 89_000, tzinfo=UTC)


def a_deployment(**changes: Any) -> Deployment:
    return Deployment(**{"source": Path("model"), "name": "digits", **changes})


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("models/digits", "digits"),
        ("models/My Model_v2.1/", "My-Model-v2-1"),
        ("digits.tar.gz", "digits"),
        ("digits.tgz", "digits"),
        ("-x-", "x"),
        ("a" * 80, "a" * 63),
    ],
)
def test_an_endpoint_is_named_after_its_directory(source: str, name: str) -> None:
    assert endpoint_name(Path(source)) == name


def test_a_directory_without_letters_needs_a_name() -> None:
    with pytest.raises(CommandFailed, match="--name"):
        endpoint_name(Path("/tmp/___"))


@pytest.mark.parametrize("endpoint", ["d", "digits", "a" * 63, "a" * 35 + "-" + "b" * 27])
def test_resource_names_are_valid_and_found_by_their_prefix(endpoint: str) -> None:
    name = resource_name(endpoint, "0123456789abcdef", NOW)
    assert NAME.fullmatch(name)
    assert len(name) <= 63
    assert name.startswith(name_prefix(endpoint))
    assert name.endswith("-01234567-20260304050607089"[1:])


def test_two_deployments_of_the_same_files_have_different_names() -> None:
    later = NOW.replace(microsecond=90_000)
    assert resource_name("d", "0" * 64, NOW) != resource_name("d", "0" * 64, later)


def test_variables_may_hold_equal_signs_and_be_empty() -> None:
    assert parse_variables(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}


@pytest.mark.parametrize("assignment", ["A", "=1", ""])
def test_a_variable_without_name_or_value_is_refused(assignment: str) -> None:
    with pytest.raises(CommandFailed, match="KEY=VALUE") as caught:
        parse_variables([assignment])
    assert caught.value.status == 2


def test_an_own_server_gets_its_image_and_what_to_start() -> None:
    wanted = a_deployment(app="server:app", environment={"X": "1"})
    assert wanted.image_uri == "clary/server:latest"
    assert wanted.container_environment == {"X": "1", "CLARY_APP": "server:app"}
    assert a_deployment(command="./run").container_environment == {"CLARY_COMMAND": "./run"}


def test_a_deployment_has_instances_unless_it_is_serverless() -> None:
    assert a_deployment().capacity == {"InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
    assert a_deployment(serverless=Serverless(memory_mb=1024)).capacity == {
        "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 5}
    }


def test_a_handler_gets_the_python_image_unless_another_is_named() -> None:
    assert a_deployment().image_uri == "clary/python:latest"
    assert a_deployment(image="my/image:1").image_uri == "my/image:1"


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, {"code/inference.py"}),
        ({}, {"inference.py", "code/x.py"}),
        ({"environment": {"SAGEMAKER_PROGRAM": "serve.py"}}, {"code/serve.py"}),
        ({"environment": {"SAGEMAKER_PROGRAM": "a/b.py"}}, {"code/a/b.py"}),
        ({"environment": {"SAGEMAKER_SUBMIT_DIRECTORY": "s3://b/c.tar.gz"}}, {"model.bin"}),
        ({"image": "my/image"}, {"model.bin"}),
        ({"command": "./run"}, {"code/run"}),
        ({"app": "server:app"}, {"code/server.py"}),
        ({"app": "pkg.server:app"}, {"code/pkg/server.py"}),
        ({"app": "pkg:app"}, {"code/pkg/__init__.py"}),
    ],
)
def test_an_entry_point_that_is_there_passes(changes: dict[str, Any], names: set[str]) -> None:
    check_entry_point(a_deployment(**changes), names)


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, "inference.py"),
        ({"environment": {"SAGEMAKER_PROGRAM": "serve.py"}}, "serve.py"),
        ({"app": "server:app"}, "server.py"),
    ],
)
def test_a_missing_entry_point_is_named(changes: dict[str, Any], missing: str) -> None:
    with pytest.raises(CommandFailed, match=re.escape(missing)):
        check_entry_point(a_deployment(**changes), {"model.bin"})
