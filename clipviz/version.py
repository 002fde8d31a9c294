"""The library's version: what an index records and `clipviz --version` prints."""

__version__ = "0.1.0"
