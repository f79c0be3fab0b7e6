"""The graders of pages 05, 08 and 09: right answers pass, each typical wrong one is told why."""

import re
from pathlib import Path

import numpy as np
import pytest

from memsinks_np.metrics import measure, predict
from memsinks_np.sinks import NO_SINKS, delete, own, prune, without
from tutorials.graders import page05, page08, page09
from tutorials.toy import history, trained

TUTORIALS = Path(__file__).parent.parent / "tutorials"


def losses(params, cfg, tokens, selection):
    return predict(params, cfg, tokens, selection)[0].mean(axis=1)


def with_losses(left, cfg, tokens, ids):
    return left, losses(left, cfg, tokens, own(cfg.sinks, ids))


def erase_one(params, cfg, tokens, ids, i):
    return with_losses(delete(params, cfg.sinks, ids[[i]]), cfg, tokens, ids)


def erase_in_place(params, cfg, tokens, ids, i):
    for name, w in delete(params, cfg.sinks, ids[[i]]).items():
        params[name][...] = w
    return with_losses(params, cfg, tokens, ids)


def erase_nothing(params, cfg, tokens, ids, i):
    delete(params, cfg.sinks, ids[[i]])
    return with_losses(params, cfg, tokens, ids)


def erase_all(params, cfg, tokens, ids, i):
    return prune(params), losses(prune(params), cfg, tokens, NO_SINKS)


def erase_by_place(params, cfg, tokens, ids, i):
    return with_losses(delete(params, cfg.sinks, [i]), cfg, tokens, ids)


def erase_one_short(params, cfg, tokens, ids, i):
    left, found = erase_one(params, cfg, tokens, ids, i)
    return left, found[i]


def erase_without_params(params, cfg, tokens, ids, i):
    return erase_one(params, cfg, tokens, ids, i)[1]


def erase_array(which):
    """Zeros in one of the three arrays of a pool only."""

    def erase(params, cfg, tokens, ids, i):
        part = {
            n: w
            for n, w in delete(params, cfg.sinks, ids[[i]]).items()
            if n.endswith(f"sink.{which}")
        }
        return with_losses(params | part, cfg, tokens, ids)

    return erase


def erase_too_much(params, cfg, tokens, ids, i):
    left, found = erase_one(params, cfg, tokens, ids, i)
    return left | {"h0.sink.b_in": 0 * left["h0.sink.b_in"]}, found


def switch_off(params, cfg, tokens, ids, i):
    return params, losses(params, cfg, tokens, without(cfg.sinks, ids, ids[[i]]))


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (page05.check_perfect_loss, np.log(8)),
        (page05.check_perfect_loss, 2.08),
        (page05.check_evidence, np.log(1000)),
        (page05.check_evidence, 6.9),
        (page05.check_unseen_sign, "+"),
        (page08.check_zero_rows, [0, 2, 5, 6]),
        (page08.check_zero_rows, np.array([6, 5, 2, 0])),
        (page08.check_before_gelu, "same"),
        (page08.check_shared, 0.5),
        (page09.check_gold_gap, 0.30 / 0.35),
        (page09.check_gold_gap, 0.86),
        (page09.check_strangers_sign, "+"),
        (page09.check_erase_one, erase_one),
        (page09.check_erase_one, erase_in_place),
    ],
)
def test_right_answers_are_accepted(check, answer, capsys):
    assert check(answer).startswith("right: ")
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(
    ("check", "answer", "hint"),
    [
        (page05.check_perfect_loss, 3, "bits"),
        (page05.check_perfect_loss, 0.125, "probability"),
        (page05.check_perfect_loss, 0, "certainty"),
        (page05.check_perfect_loss, -2.08, "never negative"),
        (page05.check_perfect_loss, 8, "same probability"),
        (page05.check_evidence, 3, "power of e"),
        (page05.check_evidence, 1000, "odds"),
        (page05.check_evidence, -6.9, "positive"),
        (page05.check_evidence, 0.001, "solve for k"),
        (page05.check_unseen_sign, "-", "64 stories"),
        (page05.check_unseen_sign, "0", "by heart"),
        (page05.check_unseen_sign, "plus", "answer with"),
        (page08.check_zero_rows, [1, 3, 4], "they get a gradient"),
        (page08.check_zero_rows, [0, 6], "nobody owns"),
        (page08.check_zero_rows, [2, 5], "not in the batch"),
        (page08.check_zero_rows, [0, 2, 3, 5, 6], "sharing a sink"),
        (page08.check_zero_rows, [0, 2], "go through"),
        (page08.check_zero_rows, [], "go through"),
        (page08.check_before_gelu, "different", "gelu(0)"),
        (page08.check_before_gelu, "yes", "answer with"),
        (page08.check_shared, 1 / 64, "32 of them"),
        (page08.check_shared, 32, "owns"),
        (page08.check_shared, 0, "not never"),
        (page08.check_shared, 2, "add up"),
        (page09.check_gold_gap, 0.947, "not from zero"),
        (page09.check_gold_gap, 0.143, "still open"),
        (page09.check_gold_gap, 1.167, "upside down"),
        (page09.check_gold_gap, 3.0, "higher loss"),
        (page09.check_gold_gap, 0.3, "divided by"),
        (page09.check_strangers_sign, "-", "other stories"),
        (page09.check_strangers_sign, "0", "adds something"),
        (page09.check_strangers_sign, "plus", "answer with"),
        (page09.check_erase_one, erase_nothing, "nothing was erased"),
        (page09.check_erase_one, erase_all, "all sinks are off"),
        (page09.check_erase_one, erase_by_place, "a place in the list"),
        (page09.check_erase_one, erase_one_short, "one loss per sequence"),
        (page09.check_erase_one, erase_array("b_in"), "erase with `delete`"),
        (page09.check_erase_one, erase_without_params, "two things"),
        (page09.check_erase_one, switch_off, "switched off, not erased"),
        (page09.check_erase_one, erase_array("W_out"), "h0.sink.W_in, h0.sink.b_in"),
        (page09.check_erase_one, erase_too_much, "no others"),
    ],
)
def test_typical_wrong_answers_are_told_why(check, answer, hint, capsys):
    line = check(answer)
    assert line.startswith("not yet: ")
    assert hint in line
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(("name", "module"), [("05", page05), ("08", page08), ("09", page09)])
def test_a_page_sets_every_exercise_and_its_solution_is_right(name, module, capsys):
    text = next(TUTORIALS.glob(f"{name}-*.md")).read_text(encoding="utf-8")
    checks = {n for n in vars(module) if n.startswith("check_")}
    exercises, solutions = re.search(
        r"## Exercises(.*?)<details>(.*?)</details>", text, re.DOTALL
    ).groups()
    for part in (exercises, solutions):
        assert set(re.findall(r"(check_\w+)\(", part)) == checks
    for call in re.findall(
        rf"^page{name}\.(check_\w+)\((.*?)\)(?:  #.*)?$", solutions, re.MULTILINE
    ):
        getattr(module, call[0])(eval(call[1], {"np": np, "erase_one": erase_one}))
    assert re.findall(r"^(right|not yet)", capsys.readouterr().out, re.MULTILINE) == [
        "right"
    ] * len(checks)


@pytest.mark.slow
def test_the_signs_to_predict_are_those_that_training_gives():
    new = lambda method, steps, seed: history(method, steps, seed)[-1]["heldout_removed"]
    assert new("standard", 1500, 0) - new("retrained", 1500, 0) > 0.01
    for seed in range(3):
        row = measure(*trained("sinks", 600, seed))
        assert row["heldout_own"] - row["heldout_removed"] > 0.01
