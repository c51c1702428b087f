"""What a trained student can become: one file a format."""
