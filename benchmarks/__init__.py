"""One file per question: ratios of two things measured in one run."""
