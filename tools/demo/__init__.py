"""How the demo is made: texts, training, and one command that runs every step whose files have changed.

candidate.safetensors holds weights of a further stage of training that is not finished: 121,344 samples from the
shipped weights with the contrast over true and false sentences (`tools.demo.train --init
clipviz/demo/model/assets/model.safetensors --learning-rate 8e-4 --patch-dropout 0.4 --spotlight 0.2 --counting 0.2`).
On 600 scenes of seed 3000061, with the texts of `tools.demo.texts`, shipped and candidate: the nearest text is true of
the picture for .735 and .847, of the nearest five .552 and .755, scenes of one class named among these .695 and .805.
Not there yet: lone objects .970 and .924, numbers of copies .72 and .61. Train on from it with `--init`.
"""
