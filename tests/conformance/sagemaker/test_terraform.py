"""Terraform's own provider: what it wrote, it must read back without a difference."""

import os
from pathlib import Path

from terraform import NEEDS_TERRAFORM, Stack

pytestmark = NEEDS_TERRAFORM

DEFINITION = """
resource "aws_sagemaker_model" "single" {
  name               = "Terraform-Single"
  execution_role_arn = "arn:aws:iam::123456789012:role/r"
  primary_container {
    image          = "123456789012.dkr.ecr.us-east-1.amazonaws.com/x:1"
    model_data_url = "s3://bucket/model.tar.gz"
    environment    = { A = "1" }
  }
  tags = { team = "ml" }
}
resource "aws_sagemaker_model" "pipeline" {
  name               = "terraform-pipeline"
  execution_role_arn = "arn:aws:iam::123456789012:role/r"
  container {
    image              = "123456789012.dkr.ecr.us-east-1.amazonaws.com/x:1"
    container_hostname = "first"
  }
  container {
    image              = "123456789012.dkr.ecr.us-east-1.amazonaws.com/x:1"
    container_hostname = "second"
  }
  inference_execution_config {
    mode = "Direct"
  }
}
resource "aws_sagemaker_endpoint_configuration" "shadowed" {
  name = "terraform-shadowed"
  production_variants {
    variant_name           = "a"
    model_name             = aws_sagemaker_model.single.name
    initial_instance_count = 1
    instance_type          = "ml.m5.large"
  }
  shadow_production_variants {
    variant_name           = "s"
    model_name             = aws_sagemaker_model.single.name
    initial_instance_count = 1
    instance_type          = "ml.m5.large"
    initial_variant_weight = 0.5
  }
  tags = { team = "ml" }
}
resource "aws_sagemaker_endpoint_configuration" "serverless" {
  name = "terraform-serverless"
  production_variants {
    variant_name = "a"
    model_name   = aws_sagemaker_model.single.name
    serverless_config {
      memory_size_in_mb       = 2048
      max_concurrency         = 5
      provisioned_concurrency = 2
    }
  }
}
resource "aws_sagemaker_endpoint_configuration" "asynchronous" {
  name = "terraform-asynchronous"
  production_variants {
    variant_name           = "a"
    model_name             = aws_sagemaker_model.single.name
    initial_instance_count = 1
    instance_type          = "ml.m5.large"
  }
  async_inference_config {
    output_config {
      s3_output_path = "s3://bucket/out"
    }
  }
  data_capture_config {
    enable_capture              = true
    initial_sampling_percentage = 20
    destination_s3_uri          = "s3://bucket/capture"
    capture_options {
      capture_mode = "Input"
    }
  }
}
"""


def test_a_second_plan_has_no_changes(endpoint_url: str, tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    stack = Stack(tmp_path, environ, DEFINITION)
    stack.apply()
    stack.assert_no_changes()
    assert "5 destroyed" in stack.destroy()
