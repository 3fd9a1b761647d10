"""Sets of shards: format, writing, reading, storage, degradation, verification."""
