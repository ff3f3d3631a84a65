"""Proofs of having a secret."""

from __future__ import annotations

import pytest

from desktopgrid.wire.proof import is_proved, new_secret, prove, verifier_of

SAID = ("a-nonce", "client", "token", "session")


@pytest.mark.parametrize("proof", ["", "0" * 64, "\u00e9" * 64, "\ud800"])
def test_a_proof_is_right_or_it_is_wrong_whatever_it_is(proof: str) -> None:
    secret = new_secret()
    assert is_proved(verifier_of(secret), prove(secret, *SAID), *SAID)
    assert not is_proved(verifier_of(secret), proof, *SAID)
