"""Write learning curves as a TensorBoard event file, with TensorBoard's own writer.

TensorBoard is imported when the first file is written, while the next segment trains. Its import
takes a third of a second and 13 MiB, and the start of a training must not wait for it.
"""

import io
import time
from collections.abc import Mapping, Sequence


def event_file(points: Sequence[tuple[float, int, Mapping[str, float]]]) -> bytes:
    """Write points as the bytes of one event file.

    :param points: wall time in seconds since 1970, step, and the value of each tag.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    begun = points[0][0] if points else time.time()
    events = [Event(wall_time=begun, file_version="brain.Event:2")]
    for wall_time, step, values in points:
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        events.append(Event(wall_time=wall_time, step=step, summary=Summary(value=scalars)))
    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    for event in events:
        writer.write(event.SerializeToString())
    return buffer.getvalue()
