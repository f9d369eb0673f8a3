"""Terraform's own provider: a target, two policies, two scheduled actions; no drift afterwards."""

import os
import shutil
import subprocess

import pytest

from server import Server

PLUGINS = os.environ.get("CLARY_TERRAFORM_PLUGINS", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PLUGINS or shutil.which("terraform") is None,
        reason="needs terraform, and CLARY_TERRAFORM_PLUGINS: the directory of its AWS provider",
    ),
]

STACK = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
provider "aws" {
  region = "us-east-1"
}
locals {
  of_target = {
    resource_id        = aws_appautoscaling_target.variant.resource_id
    scalable_dimension = aws_appautoscaling_target.variant.scalable_dimension
    service_namespace  = aws_appautoscaling_target.variant.service_namespace
  }
}
resource "aws_appautoscaling_target" "variant" {
  min_capacity       = 1
  max_capacity       = MAXIMUM
  resource_id        = "RESOURCE"
  scalable_dimension = "sagemaker:variant:DesiredInstanceCount"
  service_namespace  = "sagemaker"
  tags               = { team = "TEAM" }
}
resource "aws_appautoscaling_policy" "invocations" {
  name               = "invocations"
  policy_type        = "TargetTrackingScaling"
  resource_id        = local.of_target.resource_id
  scalable_dimension = local.of_target.scalable_dimension
  service_namespace  = local.of_target.service_namespace
  target_tracking_scaling_policy_configuration {
    target_value       = 70
    scale_in_cooldown  = 300
    scale_out_cooldown = 60
    predefined_metric_specification {
      predefined_metric_type = "SageMakerVariantInvocationsPerInstance"
    }
  }
}
resource "aws_appautoscaling_policy" "latency" {
  name               = "latency"
  policy_type        = "TargetTrackingScaling"
  resource_id        = local.of_target.resource_id
  scalable_dimension = local.of_target.scalable_dimension
  service_namespace  = local.of_target.service_namespace
  target_tracking_scaling_policy_configuration {
    target_value       = 200
    scale_in_cooldown  = 300
    scale_out_cooldown = 60
    customized_metric_specification {
      metric_name = "ModelLatency"
      namespace   = "AWS/SageMaker"
      statistic   = "Average"
      unit        = "Microseconds"
      dimensions {
        name  = "EndpointName"
        value = "e"
      }
      dimensions {
        name  = "VariantName"
        value = "AllTraffic"
      }
    }
  }
}
resource "aws_appautoscaling_scheduled_action" "morning" {
  name               = "morning"
  resource_id        = local.of_target.resource_id
  scalable_dimension = local.of_target.scalable_dimension
  service_namespace  = local.of_target.service_namespace
  schedule           = "cron(0 8 ? * MON-FRI *)"
  scalable_target_action {
    min_capacity = 3
    max_capacity = 20
  }
}
resource "aws_appautoscaling_scheduled_action" "night" {
  name               = "night"
  resource_id        = local.of_target.resource_id
  scalable_dimension = local.of_target.scalable_dimension
  service_namespace  = local.of_target.service_namespace
  schedule           = "cron(0 20 ? * MON-FRI *)"
  timezone           = "Europe/Berlin"
  scalable_target_action {
    min_capacity = 1
    max_capacity = 5
  }
}
"""


@pytest.mark.timeout(300)
def test_a_stack_is_applied_without_drift_changed_and_destroyed(
    server: Server, resource: dict[str, str], tmp_path
):
    def write(maximum, team):
        text = STACK.replace("RESOURCE", resource["ResourceId"])
        text = text.replace("MAXIMUM", str(maximum)).replace("TEAM", team)
        (tmp_path / "main.tf").write_text(text)

    def terraform(*arguments):
        done = subprocess.run(
            ["terraform", *arguments, "-no-color"],
            cwd=tmp_path,
            env={**server.environ(), "CHECKPOINT_DISABLE": "1"},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def target():
        return server.client("application-autoscaling").describe_scalable_targets(
            ServiceNamespace="sagemaker", ResourceIds=[resource["ResourceId"]]
        )["ScalableTargets"]

    write(4, "ml")
    terraform("init", f"-plugin-dir={PLUGINS}")
    assert "5 added" in terraform("apply", "-auto-approve")
    assert "No changes." in terraform("plan")
    write(6, "others")
    assert "0 added, 1 changed, 0 destroyed" in terraform("apply", "-auto-approve")
    assert target()[0]["MaxCapacity"] == 6
    assert "No changes." in terraform("plan")
    assert "5 destroyed" in terraform("destroy", "-auto-approve")
    assert target() == []
