"""A class that shares a folder: nothing is lost, nobody is named, and whatever else lies there does no harm."""

from __future__ import annotations

import os
import shutil
import stat
import threading

import pytest
from lessons.kinds import answers, questions

from clipviz.lessons import Classroom, Quiz, classroom, encode


@pytest.fixture
def sit(session):
    """sit(folder, name) -> another student's quiz, which is shared."""

    def another(folder=None, name="", kind="own"):
        made = Quiz.of(session, list(questions().values()), kind)
        if folder is not None:
            made.share(folder, name)
        return made

    return another


def answered(quiz, *rights):
    """Answer the first questions, rightly or wrongly."""
    for at, right in enumerate(rights):
        quiz.answer(at, answers(quiz.questions[at])[not right])
    return quiz


def test_every_answer_is_handed_in_at_once(sit, tmp_path):
    teacher, student = Classroom(tmp_path, sit()), sit(tmp_path)
    assert teacher.look()
    assert teacher.now.answers == (((),) * len(student.questions),)
    for at, question in enumerate(student.questions):
        student.answer(at, answers(question)[0])
        assert teacher.look()
        assert teacher.now.answers == (tuple(student.given),)
        assert student.marks(student.answers_code)[: at + 1] == [True] * (at + 1)
    assert not teacher.look()
    late = answered(sit(), True, False)  # shares after it has answered
    late.share(tmp_path)
    assert teacher.look()
    assert sorted(teacher.now.answers) == sorted([tuple(student.given), tuple(late.given)])
    assert teacher.now.n_unread == 0


def test_a_score_counts_the_answers_given_to_some_questions(sit, tmp_path):
    teacher = Classroom(tmp_path, sit())
    for rights in ((True, True), (False, True), (True,), ()):
        answered(sit(tmp_path), *rights)
    teacher.look()
    for questions_, n_right, n in (([0], 2, 3), ([1], 2, 2), ([0, 1], 4, 5), ([], 0, 0), ([2], 0, 0)):
        found = teacher.score(questions_)
        assert (found.right.n, found.right.n and found.right.value * n) == (n, pytest.approx(n_right))
    one, other = (question.chance for question in teacher.quiz.questions[:2])
    assert teacher.score([0, 1]).chance == pytest.approx((3 * one + 2 * other) / 5)


def test_the_teacher_can_read_what_the_class_writes_and_nobody_can_delete_it(sit, tmp_path):
    before = os.umask(0o077)
    try:
        quiz = sit()
        path = quiz.share(tmp_path)
        quiz.answer(0, 0)
    finally:
        os.umask(before)
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o1777
    assert path.parent == tmp_path / quiz.code
    assert len(path.stem) >= 16
    assert set(path.stem) <= set("0123456789abcdef")
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_name_finds_the_answers_again_and_is_not_written(sit, tmp_path):
    first = answered(sit(tmp_path, "Ada Lovelace"), True, False)
    path = first.share(tmp_path, " ada  LOVELACE")
    again = sit()
    assert again.share(tmp_path, "Ada Lovelace") == path
    assert again.given == first.given
    with pytest.raises(ValueError, match="an answer cannot be changed"):
        again.answer(0, 0)
    assert sit().share(tmp_path, "Grace") != path
    assert sit().share(tmp_path) != sit().share(tmp_path)
    told = "".join(f"{one.name} {one.read_text()}" for one in path.parent.iterdir()).lower()
    assert not any(word in told for word in ("lovelace", "grace"))  # shorter ones may occur by chance
    own = answered(sit(), True)  # answers given before it was shared are not replaced by earlier ones
    own.share(tmp_path, "Ada Lovelace")
    assert own.given[1] == ()
    path.write_text("nothing")
    assert not any(sit(tmp_path, "Ada Lovelace").given)


def test_a_folder_that_cannot_be_used_is_said_at_once(sit, tmp_path, monkeypatch):
    quiz = sit()
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "nowhere", tmp_path / "file"):
        for use in (quiz.share, lambda where: Classroom(where, quiz)):
            with pytest.raises(
                ValueError, match="expected a folder that exists and that the class shares, got"
            ):
                use(folder)
    (tmp_path / quiz.code).write_text("")
    with pytest.raises(ValueError, match="expected a folder that can be written, got"):
        quiz.share(tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(["file", quiz.code])
    (tmp_path / quiz.code).unlink()
    monkeypatch.setattr(classroom, "replacing", refused)
    with pytest.raises(ValueError, match="The answers could not be handed in to"):
        quiz.share(tmp_path)
    assert list((tmp_path / quiz.code).iterdir()) == []
    quiz.answer(0, 0)  # it is not shared, so nothing is tried


def refused(*_):
    raise PermissionError(13, "Permission denied")


def test_an_answer_that_cannot_be_handed_in_is_kept_and_handed_in_with_the_next(sit, tmp_path, monkeypatch):
    teacher, student = Classroom(tmp_path, sit()), sit(tmp_path)
    monkeypatch.setattr(classroom, "replacing", refused)
    with pytest.raises(
        ValueError, match=r"Permission denied\. None of them is lost: the next answer hands in all"
    ):
        student.answer(0, answers(student.questions[0])[0])
    assert any(student.given[0:1])
    teacher.look()
    assert not any(any(given) for given in teacher.now.answers)
    monkeypatch.undo()
    student.answer(1, answers(student.questions[1])[0])
    teacher.look()
    assert teacher.now.answers == (tuple(student.given),)
    assert all(student.given[:2])


def test_other_files_are_counted_and_do_no_harm(sit, tmp_path):
    student = answered(sit(tmp_path), True)
    quiz = student
    own = tmp_path / quiz.code
    other = Quiz.of(quiz.session, quiz.questions[:1])
    (own / "empty.txt").write_text("")
    (own / "words.txt").write_text("Ada was here")
    (own / "foreign.txt").write_text(other.answers_code)
    (own / "impossible.txt").write_text(encode([200] * sum(len(q.parts) for q in quiz.questions), quiz.code))
    (own / "binary.txt").write_bytes(bytes(range(256)))
    (own / "huge.txt").write_text(student.answers_code + " " * classroom.MOST_BYTES)
    (own / "folder").mkdir()
    n = 7
    if os.name == "posix":
        (tmp_path / "elsewhere").write_text(student.answers_code)
        (own / "link.txt").symlink_to(tmp_path / "elsewhere")
        os.mkfifo(own / "pipe.txt")  # which would be waited for
        n += 2
    (own / ".0123456789abcdef.tmp").write_text("half")  # is being written
    teacher = Classroom(tmp_path, sit())
    assert teacher.now.answers == (tuple(student.given),)
    assert teacher.now.n_unread == n
    for number in range(classroom.MOST_FILES):
        (own / f"0{number}.txt").write_text("")
    teacher.look()
    assert teacher.now.n_unread + len(teacher.now.answers) == n + 1 + classroom.MOST_FILES


def test_only_files_that_have_changed_are_read_again(sit, tmp_path, monkeypatch):
    students = [sit(tmp_path) for _ in range(3)]
    teacher, read = Classroom(tmp_path, sit()), []
    real = classroom.handed_in
    monkeypatch.setattr(classroom, "handed_in", lambda path: read.append(path.name) or real(path))
    assert not teacher.look()
    assert read == []
    answered(students[1], True)
    assert teacher.look()
    assert len(read) == 1
    own = tmp_path / teacher.quiz.code
    (own / "empty.txt").write_text("")
    assert teacher.look()
    assert not teacher.look()  # a file that cannot be read is not tried again
    assert len(read) == 2


def test_a_folder_that_is_gone_leaves_what_was_known(sit, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    student = answered(sit(shared), True)
    teacher = Classroom(shared, sit())
    shutil.rmtree(shared)
    assert teacher.look()
    assert "The folder cannot be read" in teacher.now.trouble
    assert teacher.now.answers == (tuple(student.given),)
    assert not teacher.look()
    shared.mkdir()
    (shared / student.code).mkdir()
    assert teacher.look()
    assert (teacher.now.trouble, teacher.now.answers) == ("", ())


def test_twenty_students_answer_at_once(sit, tmp_path):
    teacher, students, done = Classroom(tmp_path, sit()), [sit() for _ in range(20)], []

    def work(student, right):
        student.share(tmp_path)
        answered(student, *[right] * len(student.questions))
        done.append(student)

    threads = [threading.Thread(target=work, args=(one, at < 12)) for at, one in enumerate(students)]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        teacher.look()
        assert teacher.now.n_unread == 0
        assert len(teacher.now.answers) >= most
        most = len(teacher.now.answers)
    for thread in threads:
        thread.join()
    teacher.look()
    assert len(done) == 20
    assert sorted(teacher.now.answers) == sorted(tuple(one.given) for one in students)
    n = len(students[0].questions)
    assert teacher.score(range(n)).right.value == pytest.approx(12 / 20)


def test_the_folder_of_a_quiz_lies_within_the_shared_one_whatever_its_kind(sit, tmp_path):
    shared = tmp_path / "a" / "shared"
    shared.mkdir(parents=True)
    for kind in ("../../out", "/etc/x", "ä\n" * 300, "\0"):
        path = sit(kind=kind).share(shared)
        assert path.parent.parent == shared
        assert path.is_file()
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
