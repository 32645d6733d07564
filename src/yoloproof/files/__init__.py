"""What a file says of itself before anything opens it; writing new files whole or not at all."""
