"""Training: the loop and its state, with torch and torch.distributed only."""
