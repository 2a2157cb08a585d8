"""What proposes tokens, a file each."""
