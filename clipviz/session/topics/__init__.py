"""The questions that can be asked of a session: a class per topic, which receives the state and lower topics."""
