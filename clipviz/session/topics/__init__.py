"""The questions that can be asked of a session, in one class per topic, which receives the state and the topics
below it.
"""
