"""Tokens: make, list, revoke."""

from datetime import timedelta

from fastapi import APIRouter

from klepaas.interfaces.api.door import CurrentActor, Guarded, TheContext
from klepaas.interfaces.api.v1.answers.tokens import NewTokenAnswer, TokenAnswer, TokenList
from klepaas.interfaces.api.v1.bodies import NewToken
from klepaas.interfaces.api.v1.parameters import PREFIX, TokenId, refusals
from klepaas.operations import tokens

router = APIRouter(prefix=f"{PREFIX}/tokens", tags=["tokens"], route_class=Guarded)


@router.post("", status_code=201, responses=refusals(403, 413))
async def create(body: NewToken, context: TheContext, actor: CurrentActor) -> NewTokenAnswer:
    """Make a token. Its text is shown here and never again."""
    token, text = await tokens.create(
        context,
        actor,
        name=body.name,
        scope=body.scope,
        lifetime=None if body.lifetime_days is None else timedelta(days=body.lifetime_days),
        owner=body.owner,
    )
    return NewTokenAnswer(**TokenAnswer.of(token).model_dump(), token=text)


@router.get("", responses=refusals(403))
async def list_all(context: TheContext, actor: CurrentActor) -> TokenList:
    return TokenList(tokens=[TokenAnswer.of(each) for each in await tokens.list_all(context, actor)])


@router.delete("/{token_id}", status_code=204, responses=refusals(403, 404, 409))
async def revoke(token_id: TokenId, context: TheContext, actor: CurrentActor) -> None:
    """End a token now. Open streams that came in with it end within seconds."""
    await tokens.revoke(context, actor, token_id)
