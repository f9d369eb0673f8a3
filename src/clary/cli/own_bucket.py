"""The bucket that the commands put things into: archives of models, inputs of calls."""

from typing import Any

from clary.cli.api import Api, Refused

PREFIX = "clary-deployments-"


def own_bucket(api: Api) -> str:
    """Return the account's bucket for what commands upload; make it where it is not there.

    Raises:
        Refused: It belongs to somebody else, or may not be made.
    """
    bucket = PREFIX + str(api.call("sts", "get_caller_identity")["Account"])
    if not _has_bucket(api, bucket):
        options: dict[str, Any] = {}
        if api.region != "us-east-1":
            # S3 wants the region named everywhere but there.
            options["CreateBucketConfiguration"] = {"LocationConstraint": api.region}
        api.call("s3", "create_bucket", Bucket=bucket, **options)
    return bucket


def _has_bucket(api: Api, bucket: str) -> bool:
    try:
        api.call("s3", "head_bucket", Bucket=bucket)
    except Refused as error:
        if error.not_found:
            return False
        raise
    return True
