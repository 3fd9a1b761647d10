"""From shards to batches: order, augmentation, samples, the torch and DALI loaders."""
