"""The demo world: captioned scenes whose true masks, attributes and groups are known.

scenes = clipviz.data.world.render(100, seed=0)
scenes = clipviz.data.world.scene("two red apples on a striped background")
scenes = clipviz.data.world.spurious(150, seed=0)
scenes = clipviz.data.world.bird_examples(100, seed=0, correlation=0.8)
"""

from __future__ import annotations

from clipviz.data.world.scenes import Scenes, bird_examples, render, scene, spurious

__all__ = ["Scenes", "bird_examples", "render", "scene", "spurious"]
