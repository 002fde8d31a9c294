"""A quiz: a question, what can be chosen, and the answer once it has been committed."""
