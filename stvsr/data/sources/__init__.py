"""Clips from the built-in sample, videos, folders of frames and Vimeo-90K, in one layout."""
