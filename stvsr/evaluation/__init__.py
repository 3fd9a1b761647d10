"""Scores against the bicubic+linear baseline, pictures, and the report."""
