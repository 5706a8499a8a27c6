"""Parts of the command `loadbay`: what its commands share, and those of a session's owner."""
