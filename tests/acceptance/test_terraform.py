"""A stack by Terraform, from the bucket to the endpoint: applied, changed, destroyed; all signed.

The control API's own resources are in ``tests/conformance/sagemaker/test_terraform.py``, an
endpoint with all that watches and scales it in ``test_terraform_realtime.py``.
"""

from pathlib import Path

import pytest

from handlers import ECHO
from server import Server, archive, wait_for
from terraform import NEEDS_TERRAFORM, Stack

pytestmark = NEEDS_TERRAFORM

STACK = """
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


@pytest.mark.timeout(300)
def test_a_stack_is_applied_read_back_changed_and_destroyed(tmp_path: Path) -> None:
    server = Server(tmp_path, CLARY_AUTH="on")
    printed = server.cli("keys", "create", "--data-dir", str(server.data_dir)).stdout
    server.access_key, server.secret_key = (line.split("=", 1)[1] for line in printed.split())
    directory = tmp_path / "stack"
    directory.mkdir()
    artifact = directory / "model.tar.gz"
    artifact.write_bytes(archive({"code/inference.py": ECHO}))
    with server:
        stack = Stack(directory, server.environ(), STACK)
        assert "8 added" in stack.apply()
        assert server.invoke("terraform-echo", b"[1]") == b"[1]"
        stack.assert_no_changes()
        artifact.write_bytes(archive({"code/inference.py": ECHO + "# another\n"}))
        assert "1 changed" in stack.apply()
        assert "8 destroyed" in stack.destroy()
        # The provider is content with Deleting.
        wait_for(lambda: not server.sagemaker.list_endpoints()["Endpoints"], what="its end")
        assert server.s3.list_buckets()["Buckets"] == []
