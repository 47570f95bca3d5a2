"""What a user reads when something is wrong."""

import pickle

from deit.errors import UserError, did_you_mean


def test_a_user_error_says_what_was_given_what_is_allowed_and_what_to_do() -> None:
    """Three parts, a line each, in this order."""
    error = UserError("recipe.epochs = 0", "a whole number from 1", "set --epochs 1 or more")
    assert str(error).split("\n") == [
        "recipe.epochs = 0",
        "  allowed: a whole number from 1",
        "  to do:   set --epochs 1 or more",
    ]


def test_parts_that_are_left_out_leave_no_line() -> None:
    """No empty "allowed:" on the terminal."""
    assert str(UserError("no such verb")) == "no such verb"
    assert str(UserError("given", todo="do")) == "given\n  to do:   do"


def test_a_user_error_crosses_process_borders_whole() -> None:
    """Loader workers send errors by pickle."""
    error = UserError("given", "allowed", "do")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.given, copy.allowed, copy.todo) == ("given", "allowed", "do")


def test_the_nearest_known_name_is_offered() -> None:
    """A slip of the finger is recognised; something else is not forced onto a known name."""
    known = ["recipe.optim.lr", "recipe.epochs"]
    assert did_you_mean("recipe.epoch", known) == "did you mean recipe.epochs?"
    assert did_you_mean("teapot", known) == ""
