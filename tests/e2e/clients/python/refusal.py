"""What the drivers of both clients know."""

PATIENCE = 20


class Refused(Exception):
    """The broker answered CONNECT with this code."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code
