"""What is asked of an ablation: tasks, outcomes, sets of heads worth ablating."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from clipviz.session import ablation as ablations
from clipviz.session import checks
from clipviz.session.state import SessionState
from clipviz.values import N_LATE, Ablation, Task

if TYPE_CHECKING:
    from clipviz.analysis.heads.ablation import Desk, Outcome
    from clipviz.lens.zeroshot import Accuracy
    from clipviz.session.ablation import Preset


class AblationQuestions(SessionState):
    """The methods of a session about an ablation."""

    def tasks(self) -> dict[str, Task]:
        """The classification tasks that the images pose by themselves; none where nothing is known of their classes."""
        return ablations.tasks(self._session)

    def typed_task(self, names: str) -> Task:
        """A task of class names typed with commas between them; at least two."""
        return ablations.typed(self._session, names)

    def ablate(self, ablation: Ablation | None = None, task: Task | str | None = None) -> Outcome:
        """Accuracy on the images read so far, before and after an ablation and under draws of as many heads.

        ablation: default the selection's; task: one of `tasks()`, its name, or one made by `typed_task`; default
        the first. Single MLPs (1 + layer), tokens (0 = the class token, Table A.1) and layers that are not kept are
        measured on up to 1,024 labelled images, traced again; the codes of the collection do not tell them apart.
        Raises ValueError where no labelled image has been read.
        """
        chosen = self._ablation(ablation)
        found = ablations.outcome(self._session, ablations.task_of(self._session, task), chosen)
        if found is None:
            raise ValueError(
                "expected labelled images that have been read, got none; wait with session.wait()"
            )
        return found

    def project_heads(
        self,
        m: int | Sequence[int] = (10, 20, 30, 40, 50, 60),
        task: Task | str | None = None,
        texts: Any = None,
    ) -> dict[int, Accuracy]:
        """Accuracy with every late head projected on its first m texts, the rest mean-ablated (Figures 2.3 and A.1).

        The texts are chosen by Alg. 1 on the images read so far, whose labels count as well. m: texts per head, one or
        several; task: as in `ablate`. texts: the pool, default the session's: a list, a file, "words:10000" (see
        clipviz.data.texts.open_texts), or vectors [text, d_embed], such as random ones for comparison.
        """
        sizes = sorted(set(checks.counts("m", m)))
        if not sizes:
            raise ValueError("expected numbers of texts per head, got none; m=(10, 60) are two")
        chosen = ablations.task_of(self._session, task)
        return ablations.projected(self._session, chosen, sizes, texts, N_LATE)

    def n_labelled(self, task: Task | str | None = None) -> int:
        """How many of a task's labelled images have been read; task: as in `ablate`."""
        return ablations.n_labelled(self._session, ablations.task_of(self._session, task))

    def ablation_desk(
        self,
        task: Task | str | None = None,
        image: int | None = None,
        apart: bool = False,
        class_token: bool = False,
    ) -> Desk | None:
        """Everything that toggling needs for one image; None until the first images, and all examples, are read.

        apart: with every MLP alone, its means from up to 1,024 images traced again; class_token: without what the
        class token writes by attending to itself (Table A.1), which needs them too.
        """
        asked = ablations.task_of(self._session, task), self._image(image)
        if apart or class_token:
            return ablations.desk_apart(self._session, *asked, frozenset({0} if class_token else ()))
        return ablations.desk(self._session, *asked)

    def desk_ablation(self, ablation: Ablation) -> Ablation:
        """The ablation in the desk's terms; ValueError where it names what cannot be ablated alone there."""
        return ablations.on_desk(self._session, checks.ablation(self.model, ablation))

    def everything_else(self) -> Ablation:
        """All that is not a head kept for the collection: MLPs, the input term, and layers that are not kept."""
        return ablations.everything_else(self._session)

    def presets(
        self,
        text: str = "",
        image: int | None = None,
        task: Task | str | None = None,
        cue: tuple[str, str] = ("", ""),
    ) -> list[Preset]:
        """Sets of heads worth ablating: those that carry the task's cue or a typed one (see cue_heads), those of each
        role and property, a text's, the early ones.

        task: one of `tasks()`, its name, or one made by `typed_task`; None for none. cue: two texts, or ("", "").
        """
        chosen = None if task is None else ablations.task_of(self._session, task)
        sides = checks.texts("cue", cue)
        return ablations.presets(
            self._session, text, None if image is None else self._image(image), chosen, sides
        )

    def cue_heads(self, text: str, text_b: str, task: Task | str | None = None) -> Preset:
        """The late heads that tell one typed cue from another, such as "the sea" from "a forest" (thesis 2.4).

        A fifth of the heads of the last layers: those whose direct effects vary most along the difference of the two
        texts and least along the classes of `task` (see lens.spurious.cue_heads). Each side is one text, or several
        with commas between them. Raises ValueError until the collection has been read.
        """
        cue = ablations.typed_cue(*checks.texts("a cue", (text, text_b)))
        return ablations.cue_heads(self._session, cue, ablations.task_of(self._session, task))
