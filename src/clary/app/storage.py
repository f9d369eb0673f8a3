"""Where the server's processes find objects."""

from pathlib import Path

from clary.objects.client import EmbeddedStorage, ObjectStorage
from clary.objects.external_client import ExternalStorage
from clary.objects.transfers import EmbeddedTransfers, ExternalTransfers, ObjectTransfers
from clary.settings import Settings


def object_storage(settings: Settings, run_dir: Path) -> ObjectStorage:
    """Return the storage that the settings name: another S3, or the embedded one."""
    if settings.storage.s3_endpoint_url:
        return ExternalStorage(settings.storage.s3_endpoint_url, settings.server.region)
    return EmbeddedStorage(run_dir / "objects.sock")


def object_transfers(settings: Settings, run_dir: Path) -> ObjectTransfers:
    """Return the same storage, for those who move pieces of objects."""
    if settings.storage.s3_endpoint_url:
        return ExternalTransfers(settings.storage.s3_endpoint_url, settings.server.region)
    return EmbeddedTransfers(run_dir / "objects.sock")
