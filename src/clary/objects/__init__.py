"""S3: a client for any S3, and the embedded server."""
