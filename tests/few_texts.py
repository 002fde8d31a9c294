"""A few texts that tests ask about; each test file says which others it adds."""

COMMON = ["a red circle", "a dog", "in the sea", "two apples", "a letter", "in the forest"]
