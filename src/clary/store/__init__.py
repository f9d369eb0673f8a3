"""Durable state and its change feed."""

from clary.store.changes import Changes
from clary.store.database import Database, StoreFailed
from clary.store.listing import Listing, Page
from clary.store.store import Store

__all__ = ["Changes", "Database", "Listing", "Page", "Store", "StoreFailed"]
