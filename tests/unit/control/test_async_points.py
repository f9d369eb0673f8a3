"""What an asynchronous invocation that has ended adds to which metric."""

from datetime import timedelta

import pytest

from builders import A_TIME
from clary.control.async_points import ended_points
from clary.store.async_leases import EndedInvocation
from clary.store.async_rows import Result

TIMES = ["TimeInBacklog", "TotalProcessingTime"]
TRANSFERS = ["RequestDownloadLatency", "ResponseUploadLatency"]


@pytest.mark.parametrize(
    ("cause", "transfers", "metric"),
    [
        ("", 2, "InvocationsProcesssed"),
        ("model", 1, "InvocationFailures"),
        ("download", 0, "RequestDownloadFailures"),
        ("upload", 1, "ResponseUploadFailures"),
        ("expired", 0, "ExpiredRequests"),
    ],
)
def test_each_end_counts_once_by_its_cause(cause: str, transfers: int, metric: str) -> None:
    ended = EndedInvocation(
        ended_seq=1,
        endpoint="digits",
        accepted_at=A_TIME,
        started_at=A_TIME + timedelta(seconds=2),
        ended_at=A_TIME + timedelta(seconds=5),
        result=Result(
            status="Failed" if cause else "Completed",
            cause=cause,
            download_us=10 if transfers else None,
            upload_us=20 if transfers == 2 else None,
        ),
    )
    points = {each.key.name: each for each in ended_points(ended, variant="main")}
    assert sorted(points) == sorted([metric, *TRANSFERS[:transfers], *TIMES])
    assert points[metric].values.sum == 1
    assert points[metric].unit == "Count"
    assert points["TimeInBacklog"].values.sum == 2000
    assert points["TotalProcessingTime"].values.sum == 5000
    dimensions = {"EndpointName": "digits", "VariantName": "main"}
    assert {tuple(each.key.dimensions) for each in points.values()} == {tuple(dimensions.items())}
