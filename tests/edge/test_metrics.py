"""What needs a person goes to the structured log, with who must act; figures go to Prometheus."""

from __future__ import annotations

from structlog.testing import capture_logs

from broker.edge.metrics import REGISTRY, Telemetry


def test_a_stream_that_keeps_windows_waiting_is_named_with_who_must_act() -> None:
    told, stream = Telemetry(), {"topic": "in.energy-b.power", "partition": "3"}
    with capture_logs() as logs:
        told.stalled("in.energy-b.power", 3, 13 * 3_600_000, given_up=False)
        assert REGISTRY.get_sample_value("broker_stream_stalled", stream) == 1
        told.stalled("in.energy-b.power", 3, 49 * 3_600_000, given_up=True)
        told.stalled("in.energy-b.power", 3, 0, given_up=False)
    assert REGISTRY.get_sample_value("broker_stream_stalled", stream) == 0
    assert [line["event"] for line in logs] == ["stream_stalled", "stream_given_up"]
    for line in logs:
        assert (line["reason"], line["topic"]) == ("no_marks", "in.energy-b.power")
        assert line["must_act"].startswith("the partner must send")
