"""Scores against the trilinear baseline, pictures, and the report."""
