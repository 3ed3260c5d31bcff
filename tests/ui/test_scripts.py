"""A script comes in with a token, as the guide says, and may what its owner may."""

from __future__ import annotations

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from storage import accounts, api_tokens, users
from storage.engine import Database
from storage.models import Checkpoint
from tests.ui.serving import GRADIO_NOISE, PATIENT, web

pytestmark = GRADIO_NOISE


def test_a_script_rates_with_its_token_and_is_told_what_it_may_not(db: Database, base: Checkpoint) -> None:
    accounts.set_password(db, users.LOCAL, "hash", by=users.LOCAL)
    owner = users.add_user(db, "Ann", "annotator")
    token, secret = api_tokens.make_token(db, owner.id, "rating import")
    with web(db) as url:
        studio = Client(
            url, headers={"Authorization": f"Bearer {secret}"}, verbose=False, httpx_kwargs=PATIENT
        )
        assert studio.predict(api_name="/next_task") == {}
        with pytest.raises(AppError, match=r"Your role \(annotator\) cannot look at scores"):
            studio.predict(api_name="/list_checkpoints")
        api_tokens.revoke_token(db, token.id, owner.id)
        with pytest.raises(Exception, match=r"401|Log in"):
            studio.predict(api_name="/next_task")
        with pytest.raises(Exception, match="credentials were not provided"):
            Client(url, verbose=False, httpx_kwargs=PATIENT)
    assert base
