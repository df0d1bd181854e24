"""The kit as a web page on this machine, for people who do not program."""
