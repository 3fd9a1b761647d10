"""The list of valid clips: inspection, manifest, summary."""
