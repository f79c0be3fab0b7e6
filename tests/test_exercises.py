"""The graders accept what is right, refuse what is wrong, and never tell."""

from memsinks_np.exercises import verdict


def test_a_verdict_is_one_printed_line(capsys):
    assert verdict(True, "yes", "look again") == "right: yes"
    assert verdict(False, "yes", "look again") == "not yet: look again"
    assert capsys.readouterr().out == "right: yes\nnot yet: look again\n"
