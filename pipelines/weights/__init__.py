"""The pipeline of the weights that ship with the package: photographs, clips, training."""
