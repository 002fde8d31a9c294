"""What can be asked of a session, a class for each topic, which receives the state and the topics below it."""
