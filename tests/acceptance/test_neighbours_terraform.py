"""IAM, SNS, SQS and ECR by Terraform: applied, planned again, changed, destroyed."""

from pathlib import Path

import pytest

from server import Server
from terraform import NEEDS_TERRAFORM, Stack

pytestmark = NEEDS_TERRAFORM

STACK = """
variable "sessions" { default = 3600 }
resource "aws_iam_role" "sagemaker" {
  name                 = "sagemaker-execution"
  path                 = "/ml/"
  max_session_duration = var.sessions
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Action    = "sts:AssumeRole"
      Effect    = "Allow"
      Principal = { Service = "sagemaker.amazonaws.com" }
    }]
  })
  tags = { team = "ml" }
}
resource "aws_iam_role_policy" "buckets" {
  name = "buckets"
  role = aws_iam_role.sagemaker.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = ["s3:GetObject"], Resource = "*" }]
  })
}
resource "aws_iam_policy" "own" {
  name = "own"
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sns:Publish", Resource = "*" }]
  })
}
resource "aws_iam_role_policy_attachment" "sagemaker" {
  for_each = {
    full  = "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"
    newer = "arn:aws:iam::aws:policy/service-role/NotYetKnown"
    own   = aws_iam_policy.own.arn
  }
  role       = aws_iam_role.sagemaker.name
  policy_arn = each.value
}
resource "aws_sns_topic" "alarms" {
  name              = "alarms"
  display_name      = "Alarms"
  signature_version = 2
  tags              = { team = "ml" }
}
resource "aws_sqs_queue" "alarms" {
  name                       = "alarms"
  visibility_timeout_seconds = 45
}
resource "aws_sqs_queue_policy" "alarms" {
  queue_url = aws_sqs_queue.alarms.url
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "sns.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.alarms.arn
    }]
  })
}
resource "aws_sns_topic_subscription" "alarms" {
  topic_arn            = aws_sns_topic.alarms.arn
  protocol             = "sqs"
  endpoint             = aws_sqs_queue.alarms.arn
  raw_message_delivery = true
}
resource "aws_ecr_repository" "models" {
  name                 = "models"
  image_tag_mutability = "IMMUTABLE"
}
"""


@pytest.mark.timeout(300)
def test_a_stack_of_neighbours(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        stack = Stack(tmp_path / "stack", server.environ(), STACK)
        assert "11 added" in stack.apply()
        stack.assert_no_changes()
        server.stop()
        server.start()
        stack.assert_no_changes()
        topic = "arn:aws:sns:us-east-1:123456789012:alarms"
        server.client("sns").publish(TopicArn=topic, Message="through")
        queue = server.client("sqs").get_queue_url(QueueName="alarms")["QueueUrl"]
        got = server.client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=5)
        assert got["Messages"][0]["Body"] == "through"
        assert "1 changed" in stack.apply(sessions="7200")
        stack.assert_no_changes(sessions="7200")
        assert "11 destroyed" in stack.destroy()
        roles = server.client("iam").list_roles()["Roles"]
        assert [role["RoleName"] for role in roles] == ["clary"]
