"""Terraform's own provider: what it wrote, it must read back without a difference."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PLUGINS = os.environ.get("CLARY_TERRAFORM_PLUGINS", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PLUGINS or shutil.which("terraform") is None,
        reason="needs terraform, and CLARY_TERRAFORM_PLUGINS: the directory of its AWS provider",
    ),
]

DEFINITION = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
provider "aws" {
  region = "us-east-1"
}
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
      memory_size_in_mb = 2048
      max_concurrency   = 5
    }
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
    (tmp_path / "main.tf").write_text(DEFINITION)
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "CHECKPOINT_DISABLE": "1",
    }

    def terraform(*arguments: str) -> str:
        done = subprocess.run(
            ["terraform", *arguments, "-no-color"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    terraform("init", f"-plugin-dir={PLUGINS}")
    terraform("apply", "-auto-approve")
    assert "No changes." in terraform("plan")
    assert "4 destroyed" in terraform("destroy", "-auto-approve")
