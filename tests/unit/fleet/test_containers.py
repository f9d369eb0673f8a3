from pathlib import Path

import pytest

from clary.errors import PermanentError
from clary.fleet.containers import Places, container_variables, move_paths, program_of

PLACES = Places(
    base_dir=Path("/d/i-1"),
    model_dir=Path("/d/i-1/model"),
    code_dir=Path("/d/i-1/code"),
    tmp_dir=Path("/d/i-1/tmp"),
)


def variables(
    *, gpus: tuple[int, ...] = (), server: dict[str, str] | None = None, **own: dict[str, str]
) -> dict[str, str]:
    return container_variables(
        model=own.get("model", {}),
        image=own.get("image", {}),
        platform=own.get("platform", {}),
        inherited=server or {},
        places=PLACES,
        python="/env/bin/python",
        gpus=gpus,
    )


def test_the_model_wins_over_the_image_and_the_image_over_the_platform() -> None:
    result = variables(
        platform={"A": "platform", "B": "platform", "C": "platform"},
        image={"B": "image", "C": "image"},
        model={"C": "model"},
    )

    assert (result["A"], result["B"], result["C"]) == ("platform", "image", "model")


def test_nothing_of_the_server_leaks_but_a_short_list() -> None:
    result = variables(
        server={"HOME": "/home/me", "SECRET": "x", "PATH": "/bin", "AWS_PROFILE": "prod"}
    )

    assert result["HOME"] == "/home/me"
    assert result["PATH"] == "/env/bin:/bin"
    assert "SECRET" not in result
    assert "AWS_PROFILE" not in result


def test_instances_without_gpus_see_none() -> None:
    assert variables()["CUDA_VISIBLE_DEVICES"] == ""
    assert variables(gpus=(1, 3))["CUDA_VISIBLE_DEVICES"] == "1,3"


def test_output_is_not_held_back_in_buffers() -> None:
    assert variables()["PYTHONUNBUFFERED"] == "1"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/opt/ml/model", "/d/i-1/model"),
        ("/opt/ml/model/", "/d/i-1/model/"),
        ("/opt/ml/model/code", "/d/i-1/model/code"),
        ("/opt/ml/code:/opt/ml/model/lib", "/d/i-1/code:/d/i-1/model/lib"),
        ("file:///opt/ml/code", "file:///d/i-1/code"),
        ("/opt/ml/models/x", "/opt/ml/models/x"),
        ("/opt/ml/model-v2", "/opt/ml/model-v2"),
        ("/opt/ml/codes", "/opt/ml/codes"),
        ("plain", "plain"),
    ],
)
def test_paths_of_the_container_become_those_of_the_instance(value: str, expected: str) -> None:
    assert move_paths(value, PLACES) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "inference"),
        ("", "inference"),
        ("inference.py", "inference"),
        ("serve", "serve"),
        ("inference/handler.py", "inference/handler"),
        ("./handler.py", "handler"),
    ],
)
def test_the_program_is_a_path_without_its_ending(value: str | None, expected: str) -> None:
    environment = {} if value is None else {"SAGEMAKER_PROGRAM": value}

    assert program_of(environment) == expected


@pytest.mark.parametrize("value", ["/etc/passwd", "../x.py", "a/../../x.py"])
def test_a_program_outside_the_code_is_refused(value: str) -> None:
    with pytest.raises(PermanentError, match="SAGEMAKER_PROGRAM"):
        program_of({"SAGEMAKER_PROGRAM": value})
