"""The images of a session: reading and caching, tasks and classifiers, search, neighbours and atlas."""

from clipviz import lazily

__getattr__ = lazily.modules_of(__name__)
