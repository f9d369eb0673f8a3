"""The guide to Prometheus, OpenTelemetry and Grafana does what it says."""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from collector import Collector
from handlers import ECHO
from pages import ROOT, blocks
from scraping import scrape
from server import Server, wait_for
from shell import in_a_terminal

PAGE = "docs/guides/observability.md"
DASHBOARD = ROOT / "deploy/grafana/clary.json"
NAME = re.compile(r"\bclary_[a-z0-9_]+")


def block(language: str, name: str) -> str:
    """A code block of the guide, by the name in its first line."""
    (found,) = [b for b in blocks(PAGE, language) if b.startswith(f"# {name}\n")]
    return found


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("observability-guide")
    settings = block("toml", "collector.toml")
    assert "http://127.0.0.1:4318" in settings
    (directory / "collector.toml").write_text(
        settings.replace("http://127.0.0.1:4318", collector.url)
    )
    with Server(
        directory,
        CLARY_CONFIG=str(directory / "collector.toml"),
        CLARY_DATA_DIR=str(directory / "data"),
        CLARY_METRICS_INSTANCE_INTERVAL_S="1",
    ) as running:
        yield running


def test_the_shell_command_shows_calls(server: Server, tmp_path: Path) -> None:
    (command,) = blocks(PAGE, "sh")
    server.deploy("counted", {"code/inference.py": ECHO})
    server.invoke("counted")

    def shown() -> bool:
        done = in_a_terminal(server, command, tmp_path)
        line = 'clary_invocations_total{endpoint="counted",variant="AllTraffic"} 1.0'
        return line in done.stdout.splitlines()

    wait_for(shown, timeout_s=30, what="the call in the text")


def test_the_traced_call_is_the_containers_parent(
    server: Server, collector: Collector, tmp_path: Path
) -> None:
    server.deploy("traced", {"code/inference.py": block("python", "inference.py")})
    (tmp_path / "traced.py").write_text(block("python", "traced.py"))
    done = in_a_terminal(server, f"{shlex.quote(sys.executable)} traced.py", tmp_path)
    assert done.returncode == 0, done.stderr
    trace_id, answer = done.stdout.split(" ", 1)
    wait_for(lambda: len(collector.of_trace(trace_id)) == 2, timeout_s=30, what="two spans")
    by_name = {span.name: span for span in collector.of_trace(trace_id)}
    assert set(by_name) == {"InvokeEndpoint", "call model"}
    inside = by_name["call model"].span_id.hex()
    assert json.loads(answer)["traceparent"] == f"00-{trace_id}-{inside}-01"
    wait_for(lambda: "clary_model_latency" in collector.metrics, timeout_s=60, what="metrics")


def test_the_settings_of_the_guide_protect_the_metrics(tmp_path: Path) -> None:
    (tmp_path / "clary.toml").write_text(block("toml", "clary.toml"))
    with Server(tmp_path, CLARY_CONFIG=str(tmp_path / "clary.toml")) as server:
        seen = scrape(server, Authorization="Bearer a long random text")
        assert "clary_build_info" in seen.names


def names_of(text: str) -> set[str]:
    return set(NAME.findall(text))


def shown_families(server: Server) -> set[str]:
    """Names of all families, also of those that have no series at the moment."""
    seen = scrape(server)
    found = set(seen.names)
    for name, family in seen.families.items():
        if family.type == "counter":
            found.add(f"{name}_total")
        elif family.type == "histogram":
            found |= {f"{name}{end}" for end in ("", "_bucket", "_count", "_sum")}
        else:
            found.add(name)
    return found


def test_the_dashboard_shows_what_there_is(server: Server) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())
    ]
    queries = [each.get("definition", "") for each in dashboard["templating"]["list"]]
    wanted = names_of(" ".join([*expressions, *queries]))
    assert len(wanted) > 20
    assert wanted <= shown_families(server)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_the_rules_name_what_there_is(server: Server) -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    expressions = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    wanted = names_of(" ".join(expressions))
    assert len(wanted) > 4
    assert wanted <= shown_families(server)
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert config["rule_files"] == ["rules.yml"]
    assert config["scrape_configs"][0]["metrics_path"] == "/metrics"


def test_the_table_has_every_metric(server: Server) -> None:
    text = (ROOT / PAGE).read_text()
    table = names_of(text.partition("| metric |")[2].partition("\n\n")[0])
    families = {
        f"{name}_total" if family.type == "counter" else name
        for name, family in scrape(server).families.items()
    }
    assert table == families
