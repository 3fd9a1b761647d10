"""The only Ray: builds the parts of a run and hands them over."""
