"""`clary demo`: the README's story on a server of its own, in a directory that goes away again.

The code that is shown is the code that runs: ``examples/digits/quickstart.py`` is the block of the
README, run as it stands with nothing but the lines of `clary env` in its environment.
"""

import importlib.util
import json
import math
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from clary.cli import shell
from clary.cli.api import DEFAULT_REGION, Api
from clary.cli.failure import CommandFailed
from clary.cli.local import ANY_CREDENTIAL
from clary.cli.output import Steps, stderr, stdout

NEEDED = {"sklearn": "scikit-learn", "fastapi": "fastapi", "uvicorn": "uvicorn"}
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 40.0
PICTURES = 6
SHADES = " .:-=+*#%@"
SHADES_UNICODE = " ░▒▓█"
REVIEWS = ("I love it, great and fast.", "Broken again. I hate it.", "It is a server.")


def run() -> None:
    """Run the demo from start to end.

    Raises:
        CommandFailed: A package is missing, or a step did not work.
    """
    check_packages()
    examples = examples_dir()
    console = stdout()
    with (
        tempfile.TemporaryDirectory(prefix="clary-demo-") as directory,
        running_server(Path(directory)) as environ,
    ):
        _digits(console, examples, Path(directory), environ)
        _sentiment(console, examples, environ)
        _title(console, "3. What is there now: clary ls")
        _command(environ, "ls")
    console.print("\nThe server is stopped, its directory is gone. Your turn: clary up")


def check_packages() -> None:
    """Raise unless what the demo's models need can be imported."""
    missing = [name for module, name in NEEDED.items() if not importlib.util.find_spec(module)]
    if missing:
        raise CommandFailed(
            f"the demo's models need {', '.join(missing)}: pip install {' '.join(missing)}"
        )


def examples_dir() -> Path:
    """Return the directory of the examples: of the checkout, or where the wheel put them."""
    for place in (
        Path(__file__).parents[3] / "examples",
        Path(sysconfig.get_path("data")) / "share" / "clary" / "examples",
    ):
        if (place / "digits").is_dir():
            return place
    raise CommandFailed("the examples are not installed; run the demo from a checkout")


@contextmanager
def running_server(directory: Path) -> Iterator[dict[str, str]]:
    """Start `clary up` on a free port and yield the environment of its clients; then stop it."""
    port = _free_port()
    environ = client_environ(os.environ, port)
    output = directory / "server.log"
    with Steps(stderr()) as steps:
        steps.begin("server")
        with output.open("wb") as log:
            server = subprocess.Popen(
                [
                    *(sys.executable, "-m", "clary.cli", "up", "--host", "127.0.0.1"),
                    *("--port", str(port), "--data-dir", str(directory / "data")),
                ],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C reaches this process alone, which then stops the server in its own time.
                start_new_session=True,
            )
        try:
            _wait_until_up(server, Api(environ), output)
        except BaseException:
            _stop(server)
            raise
        steps.detail(environ["AWS_ENDPOINT_URL"])
    try:
        yield environ
    finally:
        _stop(server)


def client_environ(environ: Mapping[str, str], port: int) -> dict[str, str]:
    """Return an environment as after `eval "$(clary env)"`, free of the user's own settings."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(("AWS_", "CLARY_")) and name not in shell.UNSET
    }
    variables = shell.variables(
        host="127.0.0.1",
        port=port,
        access_key=ANY_CREDENTIAL,
        secret_key=ANY_CREDENTIAL,
        region=DEFAULT_REGION,
    )
    # The user's own profile must not leak into a demonstration, nor proxies stand in its way.
    return {**kept, **variables, "AWS_CONFIG_FILE": os.devnull, "NO_PROXY": "127.0.0.1"}


def _digits(console: Console, examples: Path, directory: Path, environ: dict[str, str]) -> None:
    source = examples / "digits" / "quickstart.py"
    code = source.read_text()
    _title(console, "1. A scikit-learn model, with the boto3 code that you would send to AWS")
    if console.is_terminal:
        calls = code[code.index("# The calls") :]
        console.print(Panel(Syntax(calls, "python", background_color="default"), title=source.name))
    else:
        console.print(f"running examples/digits/{source.name}", markup=False)
    work = directory / "work"
    work.mkdir()
    script = work / source.name
    script.write_text(code)
    with Steps(stderr()) as steps:
        steps.begin("running")
        done = subprocess.run(
            [sys.executable, str(script)], cwd=work, env=environ, capture_output=True, text=True
        )
        if done.returncode:
            raise CommandFailed(f"{source.name} failed:\n{done.stderr.strip()}")
    console.print(done.stdout.rstrip(), markup=False)
    _measure(console, Api(environ))


def _measure(console: Console, api: Api) -> None:
    """Send every test image as a request of its own; show some, the accuracy and the latency."""
    # Heavy and optional: only the demo needs it.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    _, test_images, _, test_labels = train_test_split(images, labels, random_state=0)
    answers, milliseconds = [], []
    for image in test_images:
        body = json.dumps([image.tolist()])
        started = time.perf_counter()
        reply = api.call(
            "sagemaker-runtime",
            "invoke_endpoint",
            EndpointName="digits",
            ContentType="application/json",
            Body=body,
        )
        answer = json.loads(reply["Body"].read())[0]
        milliseconds.append(1000 * (time.perf_counter() - started))
        answers.append(answer)
    shades = SHADES_UNICODE if console.encoding.lower().startswith("utf") else SHADES
    console.print()
    for line in pictures([image.tolist() for image in test_images[:PICTURES]], shades):
        console.print(line, markup=False)
    captions = "".join(f"  it says {answer:<9}" for answer in answers[:PICTURES])
    console.print(captions, style="bold", markup=False)
    right = sum(
        int(answer) == int(label) for answer, label in zip(answers, test_labels, strict=True)
    )
    console.print(
        f"\n{right} of {len(answers)} test images right ({100 * right / len(answers):.1f} %), "
        "one request each from one boto3 client:",
        markup=False,
    )
    p50, p90, p99 = (percentile(milliseconds, share) for share in (0.5, 0.9, 0.99))
    console.print(f"p50 {p50:.2f} ms   p90 {p90:.2f} ms   p99 {p99:.2f} ms", style="bold")


def _sentiment(console: Console, examples: Path, environ: dict[str, str]) -> None:
    _title(console, "2. A FastAPI server: clary deploy examples/sentiment --app server:app")
    _command(environ, "deploy", str(examples / "sentiment"), "--app", "server:app")
    for text in REVIEWS:
        console.print(f"\n{text}", markup=False)
        _command(environ, "invoke", "sentiment", "-d", json.dumps({"text": text}))
    console.print()


def pictures(images: Sequence[Sequence[float]], shades: str) -> list[str]:
    """Draw 8 by 8 images side by side, two characters a pixel.

    Args:
        images: 64 values from 0 to 16 each, row by row.
        shades: Characters from blank to full.
    """
    lines = []
    for row in range(8):
        pixels = (image[8 * row : 8 * row + 8] for image in images)
        drawn = ("".join(_shade(value, shades) * 2 for value in part) for part in pixels)
        lines.append("  ".join(drawn))
    return lines


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of the values do not exceed."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def _shade(value: float, shades: str) -> str:
    return shades[min(len(shades) - 1, int(value * len(shades) / 17))]


def _title(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold cyan"))


def _command(environ: Mapping[str, str], *arguments: str) -> None:
    """Run a command of ours as a user would, with its output where ours goes."""
    sys.stdout.flush()
    done = subprocess.run([sys.executable, "-m", "clary.cli", *arguments], env=dict(environ))
    if done.returncode:
        raise CommandFailed(f"clary {arguments[0]} failed")


def _wait_until_up(server: subprocess.Popen[bytes], api: Api, output: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            api.health()
            return
        except CommandFailed as error:
            if server.poll() is not None or time.monotonic() > deadline:
                said = output.read_text(errors="replace").strip()
                raise CommandFailed(f"the server did not start: {said or error.message}") from error
        time.sleep(0.05)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
