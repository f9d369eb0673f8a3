"""One handler per control operation; the ASGI application."""
