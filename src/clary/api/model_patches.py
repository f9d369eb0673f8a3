"""Where this server takes more than the service models say."""

from collections.abc import Mapping
from typing import Any

LOCAL_OR_REMOTE = r"(https|s3)://([^/]+)/?(.*)|(file://)?/.+"

MODEL_PATCHES: Mapping[str, Mapping[str, Any]] = {
    "sagemaker": {
        "shapes": {
            # The model wants 12 digits. Role ARNs with made-up accounts are common in code that
            # was never meant to reach AWS, and no role is ever assumed here.
            "RoleArn": {"pattern": r"^arn:aws[a-z\-]*:iam::\d{1,12}:role/?[a-zA-Z_0-9+=,.@\-_/]+$"},
            # Artifacts may also lie on this machine: file:// URLs, and absolute paths.
            "Url": {"pattern": LOCAL_OR_REMOTE},
            "S3ModelUri": {"pattern": LOCAL_OR_REMOTE},
        }
    }
}
"""By service name, merged into its model."""
