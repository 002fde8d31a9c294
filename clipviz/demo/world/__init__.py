"""The demo world: captioned scenes whose true masks, attributes and groups are known.

scenes = clipviz.demo.world.render(100, seed=0)
scenes = clipviz.demo.world.scene("two red apples on a striped background")
scenes = clipviz.demo.world.spurious(150, seed=0)
scenes = clipviz.demo.world.bird_examples(100, seed=0, correlation=0.8)
"""

from __future__ import annotations

from clipviz.demo.world.scenes import Scenes, bird_examples, join, render, scene, spurious

__all__ = ["Scenes", "bird_examples", "join", "render", "scene", "spurious"]
