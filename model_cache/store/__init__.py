"""Weight files on disk: where they come from, how they are verified and converted."""
