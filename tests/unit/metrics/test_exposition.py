"""What we write, the parsers of prometheus_client read."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text

from clary.metrics.exposition import ROWS_AT_ONCE, render, wants_open_metrics
from clary.metrics.families import Ends, Family, Histogram, counter, gauge, histogram

CALLS = counter("calls_total", "Calls.", "endpoint")
EDGES = (0.01, 0.1, 1.0)
TIMES = histogram("times_seconds", "Times.", "endpoint", edges=EDGES)
SIZE = gauge("size_bytes", 'A "size"\nof \\ things.', "what", unit="bytes")


def both(families):
    """Samples as both parsers read them: (name, labels, value)."""
    read = []
    for parse, open_metrics in ((parse_text, False), (parse_open, True)):
        text = "".join(render(families, open_metrics=open_metrics))
        read.append([(s.name, s.labels, s.value) for family in parse(text) for s in family.samples])
    return read


def test_counters_and_gauges_are_read_by_both_parsers():
    families = [Family(CALLS, [(("a",), 3.0), (("b",), 0.0)]), Family(SIZE, [(("x",), 1.5e9)])]
    for samples in both(families):
        assert samples == [
            ("calls_total", {"endpoint": "a"}, 3.0),
            ("calls_total", {"endpoint": "b"}, 0.0),
            ("size_bytes", {"what": "x"}, 1.5e9),
        ]


def test_a_histogram_has_cumulative_buckets_a_count_and_a_sum():
    times = Histogram(EDGES)
    ends = Ends(EDGES)
    from clary.metrics.sketch import bucket_of

    times.add({bucket_of(5_000): 2, bucket_of(500_000): 1, bucket_of(9e6): 4}, 3.6e7, ends)
    for samples in both([Family(TIMES, [(("a",), times)])]):
        buckets = {s[1]["le"]: s[2] for s in samples if s[0] == "times_seconds_bucket"}
        assert buckets == {"0.01": 2, "0.1": 2, "1.0": 3, "+Inf": 7}
        rest = {name: value for name, _, value in samples if not name.endswith("_bucket")}
        assert rest == {"times_seconds_count": 7, "times_seconds_sum": pytest.approx(36.0)}


def test_every_value_is_in_the_bucket_of_its_edge():
    from clary.metrics.sketch import bucket_of

    for edge in EDGES:
        times = Histogram(EDGES)
        times.add({bucket_of(edge * 1e6): 1}, edge * 1e6, Ends(EDGES))
        assert times.counts[EDGES.index(edge)] == 1


def test_help_and_labels_are_escaped():
    what = 'a "quoted"\\ name\nof two lines'
    for parse, open_metrics in ((parse_text, False), (parse_open, True)):
        text = "".join(render([Family(SIZE, [((what,), 1.0)])], open_metrics=open_metrics))
        (family,) = parse(text)
        assert family.samples[0].labels == {"what": what}
        assert "\n" in family.documentation


@given(st.text(max_size=20), st.floats(allow_nan=False))
def test_any_label_and_number_survive(label, value):
    for samples in both([Family(gauge("g", "G.", "l"), [((label,), value)])]):
        assert samples == [("g", {"l": label}, value)]


def test_not_a_number_is_written_as_prometheus_wants_it():
    for samples in both([Family(gauge("g", "G."), [((), math.nan)])]):
        assert math.isnan(samples[0][2])


def test_many_series_come_in_pieces():
    family = Family(CALLS, [((str(n),), 1.0) for n in range(2 * ROWS_AT_ONCE + 1)])
    pieces = list(render([family], open_metrics=False))
    assert len(pieces) == 4  # the head, and three pieces
    assert "".join(pieces).count("\n") == 2 + 2 * ROWS_AT_ONCE + 1


PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "open_metrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text; version=1.0.0", True),
        (PROMETHEUS, True),
        ("text/plain;q=0.9, application/openmetrics-text;q=0.5", False),
        ("application/openmetrics-text;q=nonsense", True),
        ("application/openmetrics-text;q=nonsense, text/plain", False),
    ],
)
def test_the_format_is_what_the_client_prefers(accept, open_metrics):
    assert wants_open_metrics(accept) is open_metrics
