"""Where the server's processes find objects."""

from pathlib import Path

from clary.objects.client import EmbeddedStorage, ObjectStorage
from clary.objects.external_client import ExternalStorage
from clary.settings import Settings


def object_storage(settings: Settings, run_dir: Path) -> ObjectStorage:
    """Return the storage that the settings name: another S3, or the embedded one."""
    if settings.storage.s3_endpoint_url:
        return ExternalStorage(settings.storage.s3_endpoint_url, settings.server.region)
    return EmbeddedStorage(run_dir / "objects.sock")
