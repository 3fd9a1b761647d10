"""Video files: probing, decoding with times, geometry and color. The only importer of PyAV."""
