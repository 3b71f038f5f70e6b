"""What a handle says of itself: names and levels, the descriptor, and what is told."""
