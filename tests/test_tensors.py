"""The two heads and their joint decision, by arithmetic."""

import pytest
import torch

from deit.tensors import TwoHeads

SURE_OF_NOT_0 = torch.tensor([[0.01, 0.60, 0.39]]).log()
FOR_0 = torch.tensor([[0.90, 0.05, 0.05]]).log()


def test_joint_decision_is_the_mean_of_the_probabilities():
    """The paper adds the softmax outputs; (0.01 + 0.90) / 2 and so on."""
    joint = TwoHeads(SURE_OF_NOT_0, FOR_0).joint_probabilities()
    torch.testing.assert_close(joint, torch.tensor([[0.455, 0.325, 0.22]]))


def test_mean_of_logits_decides_otherwise():
    """sqrt(0.01 * 0.90) < sqrt(0.60 * 0.05): there, one head can veto what the other is sure of."""
    heads = TwoHeads(SURE_OF_NOT_0, FOR_0)
    geometric = torch.tensor([[0.01 * 0.90, 0.60 * 0.05, 0.39 * 0.05]]).sqrt()
    expected = geometric / geometric.sum()
    torch.testing.assert_close(heads.mean_logits().softmax(-1), expected)
    assert heads.mean_logits().argmax() == 1
    assert heads.joint_probabilities().argmax() == 0


def test_one_head_decides_alone():
    """Without a second head both decisions are the first one's."""
    heads = TwoHeads(FOR_0)
    torch.testing.assert_close(heads.joint_probabilities(), FOR_0.exp())
    assert heads.mean_logits() is FOR_0


def test_probabilities_are_float32_from_half_precision():
    """Autocast must not round the probabilities that are compared."""
    half = TwoHeads(FOR_0.bfloat16(), FOR_0.bfloat16()).joint_probabilities()
    assert half.dtype is torch.float32
    assert half.sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_is_the_joint_decisions_and_ends_with_the_classes(k):
    """Five of three classes are three."""
    probabilities, classes = TwoHeads(SURE_OF_NOT_0, FOR_0).top_k(k)
    torch.testing.assert_close(probabilities, torch.tensor([[0.455, 0.325, 0.22]])[:, :k])
    assert classes.tolist() == [[0, 1, 2][:k]]
