"""What README and guides tell people to type works as it is written."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages import ROOT, blocks, commands
from server import Server
from shell import in_a_terminal


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose data directory is what `clary env` looks at."""
    directory = tmp_path_factory.mktemp("guides")
    with Server(directory, CLARY_DATA_DIR=str(directory / "data")) as running:
        yield running


def test_the_readme_pasted_into_an_empty_file_works(server: Server, tmp_path: Path) -> None:
    (code,) = blocks("README.md", "python")
    (tmp_path / "empty.py").write_text(code)
    done = in_a_terminal(server, f"{shlex.quote(sys.executable)} empty.py", tmp_path)
    assert done.returncode == 0, done.stderr
    predicted, truth = done.stdout.splitlines()
    assert predicted.partition("[")[2] == truth.partition("[")[2]


def test_the_commands_of_the_readme_work(server: Server, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples/sentiment", tmp_path / "my-server")
    (tmp_path / "my-model").mkdir()
    (tmp_path / "my-model/inference.py").write_text(
        "def model_fn(model_dir): return None\ndef predict_fn(data, model): return data.sum()\n"
    )
    lines = [
        line for line in commands("README.md") if line.startswith(("clary deploy", "clary inv"))
    ]
    assert lines.pop().endswith("--watch")  # it does not end; tests/acceptance has it
    assert len(lines) == 3
    done = in_a_terminal(server, "\n".join(lines), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("6")


def test_the_first_ten_minutes_go_as_the_guide_says(server: Server, tmp_path: Path) -> None:
    (handler,) = blocks("docs/getting-started.md", "python")
    (tmp_path / "greeter").mkdir()
    file = tmp_path / handler.splitlines()[0].removeprefix("# ")
    file.write_text(handler)
    deploy, french, german = [
        line
        for line in commands("docs/getting-started.md")
        if line.startswith(("clary deploy", "clary invoke")) and "--watch" not in line
    ]

    done = in_a_terminal(server, f"{deploy}\n{french}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == '{"greeting": "Bonjour, Ada!"}'

    done = in_a_terminal(server, german, tmp_path)
    assert done.returncode == 1
    assert "the model answered 500" in done.stderr
    assert "KeyError: 'de'" in done.stderr

    file.write_text(f"import nonsense\n{handler}")
    done = in_a_terminal(server, deploy, tmp_path)
    assert done.returncode == 1
    assert "No module named 'nonsense'" in done.stderr

    done = in_a_terminal(server, "clary rm greeter", tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_example_server_answers(server: Server, tmp_path: Path) -> None:
    command = next(line for line in commands("docs/deploying.md") if "--app" in line)
    shutil.copytree(ROOT / "examples/sentiment", tmp_path / "sentiment")
    script = f"""{command}\nclary invoke sentiment -d '{{"text": "great, fast"}}'"""
    done = in_a_terminal(server, script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == '{"label":"positive","score":2}'


def test_the_aws_cli_needs_nothing_else(server: Server, tmp_path: Path) -> None:
    aws = shutil.which("aws")
    if aws is None:
        pytest.skip("the AWS CLI is not installed")
    server.deploy(
        "for-aws-cli",
        {
            "code/inference.py": "def model_fn(d): return None\n"
            "def predict_fn(data, model): return data * 2\n"
        },
    )
    (tmp_path / "body").write_text("[1, 2]")
    script = """
        aws sagemaker list-endpoints --query 'Endpoints[].EndpointName' --output text
        aws sagemaker-runtime invoke-endpoint --endpoint-name for-aws-cli \
            --content-type application/json --body fileb://body answer >/dev/null
        cat answer
        aws s3 cp body s3://models/from-aws-cli
        aws s3 cp s3://models/from-aws-cli -
    """
    done = in_a_terminal(server, script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "for-aws-cli" in done.stdout
    assert "[2, 4]" in done.stdout
    assert done.stdout.endswith("[1, 2]")


def test_the_page_on_variants_works_from_top_to_bottom(server: Server, tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text("\n".join(blocks("docs/guides/variants.md", "python")))
    done = in_a_terminal(server, f"{shlex.quote(sys.executable)} page.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "before: True True",
        "asked for: daring",
        "after: {'daring'}",
        "steady 0.0 1",
        "daring 1.0 2",
        'noted: ["first", "second"]',
        "closed: True",
        "True",
    ]
    assert "candidate saw Ada" in server.cli("logs", "greeter-shadowed").stdout
