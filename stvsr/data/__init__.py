"""Source to index to shards to ClipBatch."""
