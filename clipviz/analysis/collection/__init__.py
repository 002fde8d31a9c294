"""The images of a session: how they are read and kept, their tasks and classifiers, search, neighbours and atlas."""
