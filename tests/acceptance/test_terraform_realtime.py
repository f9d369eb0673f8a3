"""An endpoint that rolls, is watched, rolls back and scales, all by one Terraform stack.

A role with its policies, a model, a configuration with a shadow and managed scaling, an endpoint
with a deployment by steps and an alarm that calls it off, and its autoscaling: the shape in which
teams keep such an endpoint. The model's URI is its version, so that a new URI is a new model, a new
configuration and an update of the endpoint that is there.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from async_endpoints import wait_for_object
from load import Load
from server import Server, wait_for
from terraform import NEEDS_TERRAFORM, Stack
from updates import RATE, WORD, answers_since

pytestmark = NEEDS_TERRAFORM

STACK = """
variable "model_s3_uri" {}
variable "asynchronous" {
  type    = bool
  default = false
}
locals {
  endpoint = "reviews"
  version  = substr(md5(var.model_s3_uri), 0, 8)
  tags     = { team = "ml" }
}

resource "aws_iam_role" "endpoint" {
  name = "reviews-endpoint"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Action    = "sts:AssumeRole"
      Effect    = "Allow"
      Principal = { Service = "sagemaker.amazonaws.com" }
    }]
  })
}
resource "aws_iam_role_policy_attachment" "sagemaker" {
  role       = aws_iam_role.endpoint.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"
}
resource "aws_iam_role_policy" "objects" {
  role = aws_iam_role.endpoint.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = ["s3:GetObject", "s3:ListBucket"], Resource = ["*"] },
      { Effect = "Allow", Action = "ecr:BatchGetImage", Resource = "*" },
    ]
  })
}

resource "aws_sagemaker_model" "reviews" {
  name               = "${local.endpoint}-${local.version}"
  execution_role_arn = aws_iam_role.endpoint.arn
  primary_container {
    image          = "123456789012.dkr.ecr.us-east-1.amazonaws.com/reviews:latest"
    model_data_url = var.model_s3_uri
    environment = {
      MODEL_MAX_BATCH_SIZE       = "32"
      SAGEMAKER_PROGRAM          = "inference/handler.py"
      SAGEMAKER_SUBMIT_DIRECTORY = "/opt/ml/code"
    }
  }
  tags = local.tags
  lifecycle { create_before_destroy = true }
}
resource "aws_sagemaker_endpoint_configuration" "reviews" {
  name = "${local.endpoint}-${local.version}"
  production_variants {
    variant_name           = "main"
    model_name             = aws_sagemaker_model.reviews.name
    instance_type          = "ml.m5.large"
    initial_instance_count = 1
    initial_variant_weight = 1
    managed_instance_scaling {
      status             = "ENABLED"
      min_instance_count = 1
      max_instance_count = 4
    }
  }
  shadow_production_variants {
    variant_name           = "behind"
    model_name             = aws_sagemaker_model.reviews.name
    instance_type          = "ml.m5.large"
    initial_instance_count = 1
    initial_variant_weight = 0
  }
  dynamic "async_inference_config" {
    for_each = var.asynchronous ? [1] : []
    content {
      output_config {
        s3_output_path = "s3://models/results/"
        kms_key_id     = "arn:aws:kms:us-east-1:123456789012:key/0b5e4bd3"
      }
    }
  }
  tags = local.tags
  lifecycle { create_before_destroy = true }
}
resource "aws_sagemaker_endpoint" "reviews" {
  name                 = local.endpoint
  endpoint_config_name = aws_sagemaker_endpoint_configuration.reviews.name
  deployment_config {
    blue_green_update_policy {
      traffic_routing_configuration {
        type                     = "LINEAR"
        wait_interval_in_seconds = 2
        linear_step_size {
          type  = "CAPACITY_PERCENT"
          value = 25
        }
      }
      termination_wait_in_seconds = 2
    }
    auto_rollback_configuration {
      alarms { alarm_name = aws_cloudwatch_metric_alarm.errors.alarm_name }
    }
  }
  tags = local.tags
}

resource "aws_sns_topic" "alerts" { name = "alerts" }
resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name          = "${local.endpoint}-errors"
  alarm_description   = "Too many answers of this endpoint are errors"
  namespace           = "AWS/SageMaker"
  metric_name         = "Invocation5XXErrors"
  dimensions          = { EndpointName = local.endpoint, VariantName = "main" }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = 5
  alarm_actions       = [aws_sns_topic.alerts.arn]
}

resource "aws_appautoscaling_target" "reviews" {
  service_namespace  = "sagemaker"
  resource_id        = "endpoint/${aws_sagemaker_endpoint.reviews.name}/variant/main"
  scalable_dimension = "sagemaker:variant:DesiredInstanceCount"
  min_capacity       = 1
  max_capacity       = 4
}
resource "aws_appautoscaling_policy" "calls" {
  name               = "${local.endpoint}-calls"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.reviews.service_namespace
  resource_id        = aws_appautoscaling_target.reviews.resource_id
  scalable_dimension = aws_appautoscaling_target.reviews.scalable_dimension
  target_tracking_scaling_policy_configuration {
    target_value       = 1000000
    scale_in_cooldown  = 300
    scale_out_cooldown = 60
    predefined_metric_specification {
      predefined_metric_type = "SageMakerVariantInvocationsPerInstance"
    }
  }
}
resource "aws_appautoscaling_policy" "latency" {
  name               = "${local.endpoint}-latency"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.reviews.service_namespace
  resource_id        = aws_appautoscaling_target.reviews.resource_id
  scalable_dimension = aws_appautoscaling_target.reviews.scalable_dimension
  target_tracking_scaling_policy_configuration {
    target_value       = 60000000
    scale_in_cooldown  = 300
    scale_out_cooldown = 60
    customized_metric_specification {
      namespace   = "AWS/SageMaker"
      metric_name = "ModelLatency"
      statistic   = "Maximum"
      unit        = "Microseconds"
      dimensions {
        name  = "EndpointName"
        value = aws_sagemaker_endpoint.reviews.name
      }
      dimensions {
        name  = "VariantName"
        value = "main"
      }
    }
  }
}
resource "aws_appautoscaling_scheduled_action" "day" {
  name               = "${local.endpoint}-day"
  service_namespace  = aws_appautoscaling_target.reviews.service_namespace
  resource_id        = aws_appautoscaling_target.reviews.resource_id
  scalable_dimension = aws_appautoscaling_target.reviews.scalable_dimension
  schedule           = "cron(0 8 ? * MON-FRI 2190)"
  scalable_target_action {
    min_capacity = 3
    max_capacity = 4
  }
}
resource "aws_appautoscaling_scheduled_action" "night" {
  name               = "${local.endpoint}-night"
  service_namespace  = aws_appautoscaling_target.reviews.service_namespace
  resource_id        = aws_appautoscaling_target.reviews.resource_id
  scalable_dimension = aws_appautoscaling_target.reviews.scalable_dimension
  schedule           = "cron(0 20 ? * MON-FRI 2190)"
  scalable_target_action {
    min_capacity = 1
    max_capacity = 2
  }
}
"""
"""Targets and schedules are out of reach: what moves here is the update alone."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, CLARY_FLEET_MAX_WORKERS="1") as running:
        yield running


@pytest.fixture
def urls(server: Server) -> dict[str, str]:
    """Two versions of the model, each of which answers with its name."""
    return {
        word: server.upload({"code/inference/handler.py": WORD.format(word=word)}, word)
        for word in ("old", "new")
    }


def parts_of_autoscaling(server: Server) -> tuple[int, int, int]:
    scaling = server.client("application-autoscaling")
    return (
        len(scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]),
        len(scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]),
        len(scaling.describe_scheduled_actions(ServiceNamespace="sagemaker")["ScheduledActions"]),
    )


def assert_nothing_is_left(server: Server) -> None:
    # The provider is content with Deleting.
    wait_for(
        lambda: server.sagemaker.list_endpoints()["Endpoints"] == [],
        timeout_s=45,
        what="the endpoint to be gone",
    )
    assert server.sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    assert server.sagemaker.list_models()["Models"] == []
    assert server.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert server.client("sns").list_topics()["Topics"] == []
    assert parts_of_autoscaling(server) == (0, 0, 0)


@pytest.mark.timeout(600)
def test_another_model_rolls_blue_green_without_a_lost_call(
    server: Server, urls: dict[str, str], tmp_path: Path
) -> None:
    stack = Stack(tmp_path / "stack", server.environ(), STACK)
    assert "13 added" in stack.apply(model_s3_uri=urls["old"])
    stack.assert_no_changes(model_s3_uri=urls["old"])
    assert parts_of_autoscaling(server) == (1, 2, 2)
    with Load(server.port, "reviews", rate=RATE) as load:
        wait_for(lambda: load.good_since(0) > 20, what="the load to run")
        applied = stack.apply(model_s3_uri=urls["new"])
        moment = time.monotonic()
        wait_for(lambda: load.good_since(moment) > 20, what="calls after the update")
        assert answers_since(load, moment) == {b"new"}
    assert load.failures == []
    assert "2 added, 1 changed, 2 destroyed" in applied
    stack.assert_no_changes(model_s3_uri=urls["new"])
    assert "13 destroyed" in stack.destroy(model_s3_uri=urls["new"])
    assert_nothing_is_left(server)


@contextmanager
def asynchronous_calls(server: Server) -> Iterator[list[dict[str, Any]]]:
    """Calls an asynchronous endpoint all the time, and yields the growing list of replies."""
    server.s3.put_object(Bucket="models", Key="input.json", Body=b"{}")
    replies: list[dict[str, Any]] = []
    stop = Event()

    def run() -> None:
        while not stop.wait(0.2):
            replies.append(
                server.runtime.invoke_endpoint_async(
                    EndpointName="reviews",
                    InputLocation="s3://models/input.json",
                    ContentType="application/json",
                )
            )

    thread = Thread(target=run)
    thread.start()
    try:
        yield replies
    finally:
        stop.set()
        thread.join(30)


@pytest.mark.timeout(600)
def test_an_asynchronous_endpoint_rolls_and_answers_every_call(
    server: Server, urls: dict[str, str], tmp_path: Path
) -> None:
    stack = Stack(tmp_path / "stack", server.environ(), STACK)
    old, new = ({"model_s3_uri": urls[word], "asynchronous": "true"} for word in ("old", "new"))
    assert "13 added" in stack.apply(**old)
    stack.assert_no_changes(**old)
    with asynchronous_calls(server) as replies:
        wait_for(lambda: replies, what="the first call")
        assert "2 added, 1 changed, 2 destroyed" in stack.apply(**new)
        count = len(replies)
        wait_for(lambda: len(replies) > count + 2, what="calls after the update")
    answers = [wait_for_object(server, reply["OutputLocation"])["Body"] for reply in replies]
    assert set(answers) == {b"old", b"new"}
    assert answers[-1] == b"new"
    stack.assert_no_changes(**new)
    assert "13 destroyed" in stack.destroy(**new)
    assert_nothing_is_left(server)
