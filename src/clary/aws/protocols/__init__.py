"""One module per wire protocol, and the table of them.

A new one is a class of ``base.WireProtocol`` in a module of its own, and a line here.
"""

from collections.abc import Mapping

from clary.aws.protocols.base import WireProtocol
from clary.aws.protocols.json import JsonProtocol
from clary.aws.protocols.query import QueryProtocol
from clary.aws.protocols.rest_json import RestJsonProtocol
from clary.aws.protocols.rest_xml import RestXmlProtocol
from clary.aws.protocols.rpc_v2_cbor import RpcV2CborProtocol

PROTOCOLS: Mapping[str, WireProtocol] = {
    "json": JsonProtocol(),
    "rest-json": RestJsonProtocol(),
    "query": QueryProtocol(),
    "rest-xml": RestXmlProtocol(),
    "smithy-rpc-v2-cbor": RpcV2CborProtocol(),
}
"""By the names that service models give them."""

__all__ = ["PROTOCOLS", "WireProtocol"]
