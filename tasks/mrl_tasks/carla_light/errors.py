"""What a call can fail with."""


class Refused(Exception):
    """A client asked for what cannot be; the message goes back to it, in one line."""
