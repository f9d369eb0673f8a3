"""Terraform's own provider: a target, two policies, two scheduled actions; no drift afterwards."""

from pathlib import Path
from typing import Any

import pytest

from server import Server
from terraform import NEEDS_TERRAFORM, Stack

pytestmark = NEEDS_TERRAFORM

STACK = """
variable "resource_id" {}
variable "maximum" {}
variable "team" {}
locals {
  of_target = {
    resource_id        = aws_appautoscaling_target.variant.resource_id
    scalable_dimension = aws_appautoscaling_target.variant.scalable_dimension
    service_namespace  = aws_appautoscaling_target.variant.service_namespace
  }
}
resource "aws_appautoscaling_target" "variant" {
  min_capacity       = 1
  max_capacity       = var.maximum
  resource_id        = var.resource_id
  scalable_dimension = "sagemaker:variant:DesiredInstanceCount"
  service_namespace  = "sagemaker"
  tags               = { team = var.team }
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
    server: Server, resource: dict[str, str], tmp_path: Path
) -> None:
    def target() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = server.client(
            "application-autoscaling"
        ).describe_scalable_targets(
            ServiceNamespace="sagemaker", ResourceIds=[resource["ResourceId"]]
        )["ScalableTargets"]
        return found

    stack = Stack(tmp_path, server.environ(), STACK)
    before = {"resource_id": resource["ResourceId"], "maximum": "4", "team": "ml"}
    after = {**before, "maximum": "6", "team": "others"}
    assert "5 added" in stack.apply(**before)
    stack.assert_no_changes(**before)
    assert "0 added, 1 changed, 0 destroyed" in stack.apply(**after)
    assert target()[0]["MaxCapacity"] == 6
    stack.assert_no_changes(**after)
    assert "5 destroyed" in stack.destroy(**after)
    assert target() == []
