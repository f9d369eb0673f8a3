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
    },
    "sagemaker-runtime": {
        "shapes": {
            # What older models lack: inline payloads, and names for the output object.
            "AsyncBodyBlob": {"type": "blob", "sensitive": True},
            "InvokeEndpointAsyncInput": {
                "required": ["EndpointName"],
                "members": {
                    "Body": {"shape": "AsyncBodyBlob"},
                    "S3OutputPathExtension": {
                        "shape": "S3OutputPathExtensionHeader",
                        "location": "header",
                        "locationName": "X-Amzn-SageMaker-S3OutputPathExtension",
                    },
                    "Filename": {
                        "shape": "FilenameHeader",
                        "location": "header",
                        "locationName": "X-Amzn-SageMaker-Filename",
                    },
                },
                "payload": "Body",
            },
            "S3OutputPathExtensionHeader": {
                "type": "string",
                "min": 1,
                "max": 512,
                "pattern": "^(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]+$",
            },
            "FilenameHeader": {
                "type": "string",
                "min": 1,
                "max": 32,
                "pattern": r"^(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9-_\.]*$",
            },
        }
    },
}
"""By service name, merged into its model."""
