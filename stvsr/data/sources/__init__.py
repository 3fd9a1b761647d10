"""Clips from the built-in sample, videos and Vimeo-90K, in one layout."""
