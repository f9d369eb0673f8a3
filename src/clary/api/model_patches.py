"""Where this server takes more than the service models say."""

from collections.abc import Mapping
from typing import Any

MODEL_PATCHES: Mapping[str, Mapping[str, Any]] = {
    "sagemaker": {
        "shapes": {
            # The model wants 12 digits. Role ARNs with made-up accounts are common in code that
            # was never meant to reach AWS, and no role is ever assumed here.
            "RoleArn": {"pattern": r"^arn:aws[a-z\-]*:iam::\d{1,12}:role/?[a-zA-Z_0-9+=,.@\-_/]+$"}
        }
    }
}
"""By service name, merged into its model."""
