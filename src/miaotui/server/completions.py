"""POST /v1/completions."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from miaotui.answers.control import CacheControl
from miaotui.engine.results import Completion, Delta
from miaotui.errors import InvalidRequestError
from miaotui.server.answers import Service, check_ending, events_of, while_connected, whole
from miaotui.server.asking import Ask
from miaotui.server.bodies import read
from miaotui.server.completions_logprobs import LogprobLists
from miaotui.server.merged import Merged, Parts
from miaotui.server.reading import Reading
from miaotui.server.replies import (
    DONE,
    KEEP_ALIVE,
    built,
    ending,
    error_body,
    event,
    event_stream,
    receipt_body,
    usage,
)
from miaotui.server.wire import CompletionRequest


async def completions(request: Request) -> Response:
    """Go on from one or several prompts, at once or part by part."""
    service: Service = request.app.state.service
    asked = await read(request, CompletionRequest)
    prompts = asked.prompts()
    params = asked.sampling()
    if asked.suffix and (asked.echo or not all(isinstance(prompt, str) for prompt in prompts)):
        raise InvalidRequestError("suffix needs prompts that are texts, and echo must be false.")
    if asked.echo and asked.stream:
        raise InvalidRequestError("echo must be false where stream is true.")
    service.check_model(asked.model)
    control = CacheControl.read(asked.cache, request.headers.get("cache-control", ""))
    start = _start_all(service, request, asked, prompts, params, control)
    if asked.stream:
        answers = await while_connected(request, start)
        head = service.head("text_completion", request)
        return event_stream(_events(answers, asked, service, head))
    done = await while_connected(request, _whole(start))

    def body() -> dict[str, Any]:
        choices: list[dict[str, Any]] = []
        for prompt, completion in zip(prompts, done, strict=True):
            for one in (completion, *completion.others):
                choices.append(_choice(len(choices), prompt, one, completion, asked, service))
        said = service.head("text_completion", request) | {"choices": choices, "usage": usage(done)}
        return said | ({"miaotui": _receipts(done)} if asked.miaotui else {})

    return await while_connected(request, built(body, is_long=asked.logprobs is not None))


async def _start_all(
    service: Service,
    request: Request,
    asked: CompletionRequest,
    prompts: list[Any],
    params: Any,
    control: CacheControl,
) -> list[Reading]:
    """Start all prompts, or none."""
    service.llm.check_places(len(prompts) * params.n)
    answers: list[Reading] = []
    begun_s = time.monotonic()  # of all of them: a deadline is the request's
    try:
        for number, prompt in enumerate(prompts):
            ask = Ask(
                await _before_gap(service, request, prompt, asked.suffix) if asked.suffix else prompt,
                params,
                tenant=request.state.tenant,
                request_id=request.state.request_id + (f".{number}" if number else ""),
                priority=service.priority(asked.priority, request.state.tenant),
                control=control,
                deadline_ms=asked.deadline_ms,
                begun_s=begun_s,
            )
            answers.append(await service.ask(ask))
    except BaseException:
        for answer in answers:
            await answer.aclose()
        raise
    return answers


async def _before_gap(service: Service, request: Request, prompt: str, suffix: str) -> list[int]:
    """Token ids that ask for what stands between these texts. Raises InvalidRequestError for a model that cannot."""
    work = partial(service.llm.llm.encode_gap, prompt, suffix)
    return await service.llm.encoding.run(work, len(prompt) + len(suffix), request.state.tenant)


async def _whole(start: Any) -> list[Completion]:
    answers = await start
    async with AsyncExitStack() as stack:
        for answer in answers:
            await stack.enter_async_context(aclosing(answer))
        return list(await asyncio.gather(*(whole(answer) for answer in answers)))


def _choice(
    index: int, prompt: str | list[int], one: Completion, first: Completion, asked: CompletionRequest, service: Service
) -> dict[str, Any]:
    llm = service.llm.llm
    shown = _prompt_text(prompt, service) if asked.echo else ""
    logprobs: dict[str, list[Any]] | None = None
    if one.logprobs is not None:
        logprobs = LogprobLists(llm.tokenizer, first_offset=len(shown)).write(one.logprobs)
        if asked.echo and first.prompt_logprobs is not None:
            lists = LogprobLists(llm.tokenizer, last_offset=len(shown), skip_special=isinstance(prompt, str))
            before = lists.write(first.prompt_logprobs, llm.encode_prompt(prompt)[0])
            logprobs = {name: before[name] + logprobs[name] for name in before}
    return {
        "index": index,
        "text": shown + one.text,
        "logprobs": logprobs,
        "finish_reason": ending(one.finish_reason),
    }


def _receipts(done: list[Completion]) -> Any:
    """The receipt of one prompt, or a list of those of several."""
    receipts = [receipt_body(completion.receipt) for completion in done]
    return receipts[0] if len(receipts) == 1 else receipts


def _prompt_text(prompt: str | list[int], service: Service) -> str:
    return prompt if isinstance(prompt, str) else service.llm.llm.tokenizer.decode(prompt, skip_special=False)


async def _events(
    answers: list[Reading], asked: CompletionRequest, service: Service, head: dict[str, Any]
) -> AsyncIterator[bytes]:
    """All answers' parts as they come."""
    tokenizer = service.llm.llm.tokenizer
    lists: dict[int, LogprobLists] = defaultdict(lambda: LogprobLists(tokenizer))  # by choice
    say = partial(_said, answers, lists, head | ({"usage": None} if asked.wants_usage else {}))
    async with AsyncExitStack() as stack:
        for answer in answers:
            await stack.enter_async_context(aclosing(answer))
        try:
            parts: Parts = answers[0]
            if len(answers) > 1:
                parts = await stack.enter_async_context(aclosing(Merged(answers, asked.n or 1)))
            async with aclosing(events_of(parts, say, KEEP_ALIVE, service.settings.keep_alive_s)) as events:
                async for one in events:
                    yield one
            if asked.wants_usage or asked.miaotui:
                done = [answer.completion for answer in answers if answer.completion is not None]
                last = head | {"choices": [], "usage": usage(done)}
                if asked.miaotui:
                    last["miaotui"] = _receipts(done)
                yield event(last)
            yield DONE
        except Exception as error:  # the reply has begun: it can only be said in its stream
            yield event(error_body(error)[1])


def _said(answers: list[Reading], lists: Mapping[int, LogprobLists], head: dict[str, Any], part: Delta) -> list[bytes]:
    """A part as a chunk, if there is anything in it. Raises InvalidRequestError as `check_ending` does."""
    if not (part.text or part.finish_reason or part.logprobs):
        return []
    if part.finish_reason is not None:
        for answer in answers:
            check_ending(answer)
    choice = {
        "index": part.index,
        "text": part.text,
        "logprobs": None if part.logprobs is None else lists[part.index].write(part.logprobs),
        "finish_reason": ending(part.finish_reason),
    }
    return [event(head | {"choices": [choice]})]
