"""The images of a session: reading and caching, tasks and classifiers, search, neighbours and atlas."""
