"""Weight files on disk: the official ones, and the store that is made from them."""
