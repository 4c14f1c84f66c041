"""Scalars in event files of TensorBoard."""

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def scalars(folder: Path) -> dict[int, dict[str, float]]:
    """Scalars by tag, by step, of the only event file of a folder; no step may occur twice."""
    (file,) = folder.iterdir()
    content, steps = file.read_bytes(), {}
    while content:
        (length,) = struct.unpack("Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]
        if event.summary.value:
            values = {value.tag: value.simple_value for value in event.summary.value}
            results = {tag for tag in values if tag.startswith("results/")}
            assert event.step not in steps or results == set(values)
            steps.setdefault(event.step, {}).update(values)
    return steps
