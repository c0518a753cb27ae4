"""Layer 8: the command line. One file a command: parse, call, print."""
