"""Sign up and sign in with a passkey (WebAuthn). A challenge lives for five minutes and is spent once.

The function that makes a challenge is cached by its id, and each answer *takes* the challenge: of many requests with
the same answer exactly one gets it, in all processes. When the cache does not answer, no user is signed in: no check is
skipped.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeAlias

import webauthn
from fastapi import APIRouter, Request
from pydantic import BaseModel, StringConstraints
from webauthn import helpers
from webauthn.helpers.structs import AuthenticatorSelectionCriteria, ResidentKeyRequirement, UserVerificationRequirement

from cachekit import MISS, cached, default_cache
from examples.writing_coach.database import Passkey, User
from examples.writing_coach.web import Db, refusal

Ceremony: TypeAlias = Literal["sign-up", "sign-in"]
Parse: TypeAlias = Callable[[dict[str, Any]], Any]

router = APIRouter(prefix="/api")
TRY_AGAIN: Final = (
    "Passkeys cannot be checked at the moment, since the cache does not answer. Please try again shortly."
)
VERIFIED: Final = UserVerificationRequirement.REQUIRED  # a passkey is the only factor, so it has to know its owner


@dataclass(frozen=True, slots=True)
class Challenge:
    """The bytes that the authenticator has to sign, and their purpose. A hit brings back the bytes as bytes."""

    ceremony: Ceremony
    value: bytes
    user_id: str
    name: str


@cached(key="challenge:<challenge_id>", ttl=300)
async def create_challenge(challenge_id: str, ceremony: Ceremony = "sign-in", name: str = "") -> Challenge:  # noqa: ARG001
    """Return the challenge of this id; a new challenge if there is none. To take a challenge, its id is enough."""
    # An id is made anew for each ceremony and name. cachekit: ignore not-in-key
    return Challenge(ceremony, secrets.token_bytes(32), uuid.uuid4().hex, name)


async def begin(request: Request, ceremony: Ceremony, name: str = "") -> Challenge:
    """Make a challenge and note its id in the browser's session; 503 if the cache does not answer."""
    challenge_id = secrets.token_urlsafe(16)
    challenge = await create_challenge.refresh(challenge_id, ceremony, name)
    if not default_cache().healthy:
        raise refusal(503, TRY_AGAIN)
    request.session["challenge_id"] = challenge_id
    return challenge


async def spend(request: Request, ceremony: Ceremony) -> Challenge:
    """Take the challenge of the browser's session, before its answer is checked; 410 if there is none any more."""
    challenge = await create_challenge.take(str(request.session.get("challenge_id")))
    if challenge is MISS or challenge.ceremony != ceremony:
        # `healthy` counts the take above as well: it is False if that take has just failed.
        if not default_cache().healthy:
            raise refusal(503, TRY_AGAIN)
        raise refusal(410, "This attempt has expired, or its answer was used before. Please start again.")
    return challenge


class Name(BaseModel):
    """The name of a user."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=r"^\P{C}*$")]


class Answer(BaseModel):
    """The result of the browser's ``navigator.credentials``, as JSON."""

    credential: dict[str, Any]


@router.post("/sign-up/options")
async def sign_up_options(request: Request, name: Name) -> dict[str, Any]:
    """Begin to sign up."""
    challenge = await begin(request, "sign-up", name.name)
    options = webauthn.generate_registration_options(
        rp_id=request.app.state.settings.host,
        rp_name=request.app.title,
        user_id=challenge.user_id.encode(),
        user_name=challenge.name,
        challenge=challenge.value,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=VERIFIED
        ),
    )
    return helpers.options_to_json_dict(options)


@router.post("/sign-up")
async def sign_up(request: Request, answer: Answer, database: Db) -> Name:
    """Verify the new passkey, keep its public half, and sign in."""
    challenge = await spend(request, "sign-up")
    credential, expected = _parsed(request, challenge, answer, helpers.parse_registration_credential_json)
    verified = webauthn.verify_registration_response(credential=credential, **expected)
    user = User(id=challenge.user_id, name=challenge.name)
    async with database.sessions.begin() as session:
        key, count = verified.credential_public_key, verified.sign_count
        session.add(Passkey(id=verified.credential_id, user=user, public_key=key, sign_count=count))
    return _signed_in(request, user)


@router.post("/sign-in/options")
async def sign_in_options(request: Request) -> dict[str, Any]:
    """Begin to sign in. The user gives no name: the passkey that the user chooses identifies the user."""
    challenge = await begin(request, "sign-in")
    options = webauthn.generate_authentication_options(
        rp_id=request.app.state.settings.host, challenge=challenge.value, user_verification=VERIFIED
    )
    return helpers.options_to_json_dict(options)


@router.post("/sign-in")
async def sign_in(request: Request, answer: Answer, database: Db) -> Name:
    """Verify the passkey and sign its owner in."""
    challenge = await spend(request, "sign-in")
    credential, expected = _parsed(request, challenge, answer, helpers.parse_authentication_credential_json)
    async with database.sessions.begin() as session:
        passkey = await session.get(Passkey, credential.raw_id)
        if passkey is None:
            raise refusal(403, "This passkey is not known here. Please sign up first.")
        key, count = passkey.public_key, passkey.sign_count
        verified = webauthn.verify_authentication_response(
            credential=credential, credential_public_key=key, credential_current_sign_count=count, **expected
        )
        passkey.sign_count = verified.new_sign_count
        user = await session.get_one(User, passkey.user_id)
    return _signed_in(request, user)


@router.post("/sign-out")
async def sign_out(request: Request) -> None:
    """Sign out in this browser."""
    request.session.clear()


@router.get("/me")
async def me(request: Request, database: Db) -> Name | None:
    """Return the name of the user who is signed in, or null."""
    async with database.sessions() as session:
        user = await session.get(User, str(request.session.get("user_id")))
    return Name(name=user.name) if user else None


def _parsed(request: Request, challenge: Challenge, answer: Answer, parse: Parse) -> tuple[Any, dict[str, Any]]:
    """Return an answer and its expected values. An answer to another site is refused here, with a helpful message."""
    try:
        credential = parse(answer.credential)
        origin = helpers.parse_client_data_json(credential.response.client_data_json).origin
    except (AttributeError, TypeError, ValueError) as error:
        raise refusal(403, "The passkey was refused: its answer makes no sense.") from error
    settings = request.app.state.settings
    if origin != settings.origin:
        raise refusal(403, f"This answer was given to {origin}. Only answers to {settings.origin} are accepted.")
    expected = {"expected_challenge": challenge.value, "expected_rp_id": settings.host, "expected_origin": origin}
    return credential, {**expected, "require_user_verification": True}


def _signed_in(request: Request, user: User) -> Name:
    request.session.clear()
    request.session["user_id"] = user.id
    return Name(name=user.name)
