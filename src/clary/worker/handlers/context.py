"""The ``context`` that functions get which take one argument more (handlers.md 1 and 7).

Its methods carry the names that the toolkits' model server gave them. The index is the place in a
batch; a request on its own is number 0.
"""

from typing import Any, Dict, Optional, Sequence


class SystemProperties(Dict[str, Any]):
    """``model_dir``, ``gpu_id``, ``batch_size``, ``server_name``, ...; missing ones are None."""

    def __missing__(self, name: str) -> None:
        return None


class Context:
    """What a function may know about its request, and say about its reply."""

    def __init__(
        self, properties: SystemProperties, request_headers: Optional[Dict[str, str]] = None
    ) -> None:
        """Make the context of one request, or of loading when there are no headers.

        Args:
            properties: Of this worker; shared.
            request_headers: By lower-case name; shared with other requests.
        """
        self.system_properties = properties
        self.manifest: Dict[str, Any] = {}
        self.model_name = "model"
        self.reply_status = 0
        """0 until the function sets one."""
        self.reply_headers: Dict[str, str] = {}
        self._request_headers = request_headers or {}

    def get_request_header(self, idx: int, key: str) -> Optional[str]:
        """Return a header of request ``idx``, whatever the case of its name; None without it."""
        return self._request_headers.get(key.lower())

    def get_all_request_header(self, idx: int) -> Dict[str, str]:
        """Return a copy of all headers of request ``idx``, by lower-case name."""
        return dict(self._request_headers)

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Set the content type of reply ``idx``; one returned by ``output_fn`` wins."""
        self.set_response_header(idx, "content-type", value)

    def get_response_content_type(self, idx: int) -> Optional[str]:
        """Return what ``set_response_content_type`` set."""
        return self.reply_headers.get("content-type")

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Set a header of reply ``idx``."""
        self.reply_headers[key.lower()] = str(value)

    def get_response_headers(self, idx: int) -> Dict[str, str]:
        """Return a copy of the headers that were set."""
        return dict(self.reply_headers)

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Set the HTTP status of reply ``idx``; HTTP/2 and frames have no phrase."""
        self.reply_status = int(code)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        """Set the status of every reply of the batch."""
        self.reply_status = int(code)


class BatchContext(Context):
    """What ``predict_fn`` gets for a batch: each index leads to the context of its request."""

    def __init__(self, properties: SystemProperties, members: Sequence[Context]) -> None:
        """Join contexts.

        Args:
            properties: Of this worker; shared.
            members: The contexts of the requests, in their order.
        """
        super().__init__(properties)
        self._members = members

    def get_request_header(self, idx: int, key: str) -> Optional[str]:
        return self._members[idx].get_request_header(0, key)

    def get_all_request_header(self, idx: int) -> Dict[str, str]:
        return self._members[idx].get_all_request_header(0)

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        self._members[idx].set_response_header(0, key, value)

    def get_response_content_type(self, idx: int) -> Optional[str]:
        return self._members[idx].get_response_content_type(0)

    def get_response_headers(self, idx: int) -> Dict[str, str]:
        return self._members[idx].get_response_headers(0)

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self._members[idx].set_response_status(code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        for member in self._members:
            member.set_response_status(code, phrase)
