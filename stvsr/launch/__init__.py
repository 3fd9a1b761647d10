"""Runs on Ray: builds the parts of a run and passes them in. The only importer of Ray."""
