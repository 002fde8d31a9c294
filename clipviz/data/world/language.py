def parse(text, rng):
    raise NotImplementedError
