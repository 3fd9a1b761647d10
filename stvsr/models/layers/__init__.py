"""Blocks that two or more models use. `B T C H W`: clips, frames, channels, rows, columns."""
