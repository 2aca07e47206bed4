"""Avro schemas from the folder, and the codec between Kafka's bytes and columns."""

from broker.edge.schemas.columns import Batch
from broker.edge.schemas.folder import SchemaFolder
from broker.edge.schemas.readings import Decoded
from broker.edge.schemas.schema import Schema, frame_of, split_frame

__all__ = ["Batch", "Decoded", "Schema", "SchemaFolder", "frame_of", "split_frame"]
