"""The guide to autoscaling does what it says."""

import shlex
import sys
from pathlib import Path

from autoscaling_cases import names, wait_for_activities
from handlers import ECHO
from pages import blocks
from server import Server
from shell import in_a_terminal

PAGE = "docs/guides/autoscaling.md"


def test_the_code_of_the_guide_scales_an_endpoint(tmp_path: Path) -> None:
    directory = tmp_path / "server"
    with Server(directory, CLARY_DATA_DIR=str(directory / "data")) as server:
        server.deploy("greeter", {"code/inference.py": ECHO})
        resource = names("greeter")
        printed = {}
        for block in blocks(PAGE, "python"):
            name = block.splitlines()[0].removeprefix("# ")
            (tmp_path / name).write_text(block)
            done = in_a_terminal(server, f"{shlex.quote(sys.executable)} {name}", tmp_path)
            assert done.returncode == 0, done.stderr
            printed[name] = done.stdout
            wait_for_activities(server.client("application-autoscaling"), resource, 1)
        scaling = server.client("application-autoscaling")
        policies = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")
        actions = scaling.describe_scheduled_actions(ServiceNamespace="sagemaker")
    prefix = "TargetTracking-endpoint/greeter/variant/AllTraffic-Alarm"
    assert [line.startswith(prefix) for line in printed["follow.py"].splitlines()] == [True, True]
    assert [p["PolicyName"] for p in policies["ScalingPolicies"]] == ["follow-the-load", "steps"]
    assert [a["ScheduledActionName"] for a in actions["ScheduledActions"]] == ["morning", "evening"]
    assert printed["activities.py"].splitlines() == [
        "Successful | Setting desired instance count to 2. | minimum capacity was set to 2"
    ]
