"""The embedded generator: it turns a latent and a label into a picture whose true scene is known.

generator = clipviz.load_generator("demo")
latents = generator.sample(64, seed=0)               # or label="duck"
pictures = generator.images(latents)                 # [64, 3, 64, 64] in 0..1
truth = generator.true_scenes(latents)               # kinds, colours, places, sizes, numbers, grounds
In a checkout, `python -m tools.demo.generator FOLDER` makes its weights again.
"""
