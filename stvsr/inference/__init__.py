"""Inference: frames in, frames out, in windows of time and tiles of space. Bounded memory."""
