"""What tests and benchmarks share: tiny clips, networks, projects, servers and clusters."""
