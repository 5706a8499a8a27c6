"""Parts of the command `loadbay`: options and errors of all commands, and the commands of a session's owner."""
