"""Write what the demo knows of its generator: the units that the embedded partners share, grouped and named.

    python -m tools.demo.guides [SAMPLES]

Writes guides.safetensors and generator_concepts.json of clipviz/demo/assets. Needed whenever the weights of the
generator, a partner or the model change; without the files a session finds both by itself.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import clipviz
from clipviz.analysis.generation import concepts as generator_concepts
from clipviz.analysis.generation import guides, starts
from clipviz.analysis.generation.guides import SEED, find_guides
from clipviz.demo.shipped import ASSETS


def main(n_samples: int = 512) -> None:
    session = clipviz.Session(clipviz.load("demo"))
    generator, readers = session.generator.model, session.generator.readers
    samples = generator.sample(n_samples, seed=SEED)
    found = find_guides(generator, readers, samples)
    found = replace(found, felt=starts.usual_sensitivity(generator, found.own))
    guides.save(ASSETS / "guides.safetensors", found, guides.identity(generator, readers))
    print(f"{found.n_units} units shared with {', '.join(readers)}")
    named = generator_concepts.generator_concepts(
        session.model, generator, found, samples, list(session.texts)
    )
    generator_concepts.save(ASSETS / "generator_concepts.json", named, session.generator.weights())
    for one in named:
        print(f"{one.name} ({one.similarity:.2f}): {len(one.units)} units")
    session.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
