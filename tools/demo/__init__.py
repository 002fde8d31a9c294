"""How the demo is made: texts, training, and one command that runs every step whose files have changed."""
