"""Write clipviz/demo/assets/guides.safetensors: the embedded generator's units that the embedded partners share.

    python tools/demo_guides.py [SAMPLES]

Needed whenever the generator's or a partner's weights change; without the file a session finds them by itself.
"""

from __future__ import annotations

import sys

import clipviz
from clipviz.analysis import generation, guides
from clipviz.demo.shipped import ASSETS
from clipviz.session.generation import SEED, generator_of, readers_of

if __name__ == "__main__":
    session = clipviz.Session(clipviz.load("demo"))
    generator, readers = generator_of(session), readers_of(session)
    samples = generator.sample(int(sys.argv[1]) if len(sys.argv) > 1 else 512, seed=SEED)
    found = generation.find_guides(generator, readers, samples)
    guides.save(ASSETS / "guides.safetensors", found, guides.identity(generator, readers))
    print(f"{found.n_units} units shared with {', '.join(readers)}")
    session.close()
