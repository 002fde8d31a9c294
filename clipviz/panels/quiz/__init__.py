"""A quiz: a question, its options, and the answer after it has been committed."""
