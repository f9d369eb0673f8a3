"""The neighbour services: IAM, SNS, SQS and ECR, as far as tools around SageMaker want them."""
