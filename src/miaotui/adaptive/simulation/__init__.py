"""What planning would have done on a trace: requests replayed in simulated time against policies and an oracle."""
