"""A stack by Terraform, from the bucket to the endpoint: applied, changed, destroyed; all signed.

The control API's own resources are in ``tests/conformance/sagemaker/test_terraform.py``.
"""

import os
import shutil
import subprocess

import pytest

from handlers import ECHO
from load import Load
from server import Server, archive, wait_for

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
data "aws_caller_identity" "me" {}
resource "aws_s3_bucket" "models" {
  bucket        = "terraform-models-${data.aws_caller_identity.me.account_id}"
  force_destroy = true
  tags          = { team = "ml" }
}
resource "aws_s3_bucket_versioning" "models" {
  bucket = aws_s3_bucket.models.id
  versioning_configuration {
    status = "Suspended"
  }
}
resource "aws_s3_bucket_public_access_block" "models" {
  bucket            = aws_s3_bucket.models.id
  block_public_acls = true
}
resource "aws_s3_bucket_server_side_encryption_configuration" "models" {
  bucket = aws_s3_bucket.models.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}
resource "aws_s3_object" "artifact" {
  bucket = aws_s3_bucket.models.id
  key    = "echo/model.tar.gz"
  source = "model.tar.gz"
  etag   = filemd5("model.tar.gz")
  tags   = { kind = "model" }
}
resource "aws_sagemaker_model" "echo" {
  name               = "terraform-echo"
  execution_role_arn = "arn:aws:iam::123456789012:role/tests"
  primary_container {
    image          = "clary/python:latest"
    model_data_url = "s3://${aws_s3_object.artifact.bucket}/${aws_s3_object.artifact.key}"
    environment    = { A = "1" }
  }
}
resource "aws_sagemaker_endpoint_configuration" "echo" {
  name = "terraform-echo"
  production_variants {
    variant_name           = "AllTraffic"
    model_name             = aws_sagemaker_model.echo.name
    initial_instance_count = 1
    instance_type          = "ml.m5.large"
  }
}
resource "aws_sagemaker_endpoint" "echo" {
  name                 = "terraform-echo"
  endpoint_config_name = aws_sagemaker_endpoint_configuration.echo.name
  tags                 = { team = "ml" }
}
"""


UPDATED = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
provider "aws" {
  region = "us-east-1"
}
variable "model_s3_uri" {}
variable "model_version" {}
resource "aws_sagemaker_model" "main" {
  name               = "rolled-${var.model_version}"
  execution_role_arn = "arn:aws:iam::123456789012:role/tests"
  primary_container {
    image          = "clary/python:latest"
    model_data_url = var.model_s3_uri
  }
  lifecycle {
    create_before_destroy = true
  }
}
resource "aws_sagemaker_endpoint_configuration" "main" {
  name = "rolled-${var.model_version}"
  production_variants {
    variant_name           = "primary"
    model_name             = aws_sagemaker_model.main.name
    initial_instance_count = 1
    instance_type          = "ml.m5.large"
    initial_variant_weight = 1
    managed_instance_scaling {
      status             = "ENABLED"
      min_instance_count = 1
      max_instance_count = 10
    }
  }
  lifecycle {
    create_before_destroy = true
  }
}
resource "aws_sagemaker_endpoint" "main" {
  name                 = "rolled"
  endpoint_config_name = aws_sagemaker_endpoint_configuration.main.name
  deployment_config {
    blue_green_update_policy {
      traffic_routing_configuration {
        type                     = "CANARY"
        wait_interval_in_seconds = 2
        canary_size {
          type  = "CAPACITY_PERCENT"
          value = 10
        }
      }
      termination_wait_in_seconds          = 1
      maximum_execution_timeout_in_seconds = 1800
    }
  }
}
"""


@pytest.mark.timeout(300)
def test_another_model_rolls_blue_green_without_a_lost_call(tmp_path):
    stack = tmp_path / "stack"
    stack.mkdir()
    (stack / "main.tf").write_text(UPDATED)
    with Server(tmp_path) as server:
        urls = {version: server.upload({"code/inference.py": ECHO}, version) for version in "ab"}

        def terraform(action, version="a", *options):
            done = subprocess.run(
                [
                    *("terraform", action, "-no-color", *options),
                    *("-var", f"model_s3_uri={urls[version]}"),
                    *("-var", f"model_version={version}"),
                ],
                cwd=stack,
                env={**server.environ(), "CHECKPOINT_DISABLE": "1"},
                capture_output=True,
                text=True,
                timeout=150,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        subprocess.run(
            ["terraform", "init", f"-plugin-dir={PLUGINS}"],
            cwd=stack,
            env={**server.environ(), "CHECKPOINT_DISABLE": "1"},
            check=True,
            capture_output=True,
        )
        assert "3 added" in terraform("apply", "a", "-auto-approve")
        assert "No changes." in terraform("plan")
        with Load(server.port, "rolled", rate=50) as load:
            assert "2 added, 1 changed, 2 destroyed" in terraform("apply", "b", "-auto-approve")
        assert load.failures == []
        found = server.sagemaker.describe_endpoint(EndpointName="rolled")
        assert found["EndpointConfigName"] == "rolled-b"
        assert "No changes." in terraform("plan", "b")
        assert "3 destroyed" in terraform("destroy", "b", "-auto-approve")
        # The provider is content with Deleting.
        wait_for(
            lambda: server.sagemaker.list_endpoints()["Endpoints"] == [],
            what="the endpoint to be gone",
        )


@pytest.mark.timeout(300)
def test_a_stack_is_applied_read_back_changed_and_destroyed(tmp_path):
    server = Server(tmp_path, CLARY_AUTH="on")
    printed = server.cli("keys", "create", "--data-dir", str(server.data_dir)).stdout
    server.access_key, server.secret_key = (line.split("=", 1)[1] for line in printed.split())
    stack = tmp_path / "stack"
    stack.mkdir()
    (stack / "main.tf").write_text(STACK)
    artifact = stack / "model.tar.gz"
    artifact.write_bytes(archive({"code/inference.py": ECHO}))

    def terraform(*arguments):
        done = subprocess.run(
            ["terraform", *arguments, "-no-color"],
            cwd=stack,
            env={**server.environ(), "CHECKPOINT_DISABLE": "1"},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with server:
        terraform("init", f"-plugin-dir={PLUGINS}")
        assert "8 added" in terraform("apply", "-auto-approve")
        assert server.invoke("terraform-echo", b"[1]") == b"[1]"
        assert "No changes." in terraform("plan")
        artifact.write_bytes(archive({"code/inference.py": ECHO + "# another\n"}))
        assert "1 changed" in terraform("apply", "-auto-approve")
        assert "8 destroyed" in terraform("destroy", "-auto-approve")
        assert server.sagemaker.list_endpoints()["Endpoints"] == []
        assert server.s3.list_buckets()["Buckets"] == []
