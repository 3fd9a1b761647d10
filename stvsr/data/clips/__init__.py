"""Clips on disk: names and layout, frames in folders and zips, PNG."""
