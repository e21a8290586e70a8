"""The model that is served: what a request becomes before it is computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from trainer.data.chat import ChatTemplate, load_template, read_messages
from trainer.errors import UserError
from trainer.evaluate.generate import Piece, check_ids, encode_prompt, encode_text, generate, require_tokenizer
from trainer.evaluate.pretrained import Pretrained, build_pretrained, load_weights
from trainer.evaluate.sampling import MAX_STOPS, Sampling
from trainer.evaluate.serve.errors import ApiError, refusal
from trainer.evaluate.serve.requests import MAX_CHOICES, ChatRequest, CompletionRequest, TextRequest


@dataclass(frozen=True)
class Job:
    """Texts to be made; prompt b is drawn with seed b."""

    prompts: list[list[int]]
    seeds: list[int]
    sampling: Sampling
    end_ids: frozenset[int] = frozenset()


class ServedModel:
    """A model with its tokenizer, and its chat template where it has one."""

    def __init__(self, name: str, pretrained: Pretrained, template: ChatTemplate | UserError) -> None:
        """UserError where no tokenizer is known. Instead of a template, why there is none."""
        self.name = name
        self.template = template
        self._pretrained = pretrained
        self._tokenizer = require_tokenizer(pretrained)

    def pieces(self, job: Job) -> Iterator[Piece]:
        """The texts of a job as they are made."""
        return generate(self._pretrained, job.prompts, job.sampling, seeds=job.seeds, end_ids=job.end_ids)

    def completion_job(self, request: CompletionRequest) -> Job:
        """ApiError where a prompt is not the model's, or does not fit into its context."""
        self._check_name(request)
        sampling = request.sampling()
        prompts = request.prompts()
        if len(prompts) * request.choices > MAX_CHOICES:
            raise ApiError(
                400, f"{len(prompts)} prompts with n {request.choices}; expected {MAX_CHOICES} texts at most"
            )
        try:
            encoded = [
                encode_prompt(self._pretrained, prompt, sampling.max_tokens)
                if isinstance(prompt, str)
                else check_ids(self._pretrained, prompt, sampling.max_tokens)
                for prompt in prompts
            ]
        except UserError as error:
            raise refusal(error, param="prompt", code="invalid_prompt") from error
        return _job(encoded, request, sampling)

    def chat_job(self, request: ChatRequest) -> Job:
        """ApiError where the model has no chat template, or where that refuses the messages."""
        self._check_name(request)
        if isinstance(self.template, UserError):
            raise refusal(self.template, code="no_chat_template")
        sampling = request.sampling()
        try:
            messages = read_messages({"messages": request.messages})
            text = self.template.render(messages, add_generation_prompt=True)
            # The template writes all special tokens itself.
            ids = encode_text(self._tokenizer, text, add_special_tokens=False)
            prompt = check_ids(self._pretrained, ids, sampling.max_tokens)
        except ValueError as error:
            raise ApiError(400, str(error), param="messages", code="invalid_messages") from error
        except UserError as error:
            raise refusal(error, param="messages", code="invalid_messages") from error
        return self._end_with_turn(_job([prompt], request, sampling))

    def _check_name(self, request: TextRequest) -> None:
        if request.model not in (None, self.name):
            raise ApiError(
                404,
                f"model {request.model!r} is not served here; expected {self.name!r}, or no model",
                param="model",
                code="model_not_found",
            )

    def _end_with_turn(self, job: Job) -> Job:
        """The job, ended by what the template writes behind an answer: a token, or text where it is none."""
        assert isinstance(self.template, ChatTemplate)
        end = self.template.end_of_turn()
        number = self._tokenizer.token_to_id(end)
        if number is not None:
            return replace(job, end_ids=frozenset({number}))
        if len(job.sampling.stop) == MAX_STOPS:
            raise ApiError(
                400,
                f"stop: found {MAX_STOPS} strings; expected at most {MAX_STOPS - 1} in a chat of this model, whose "
                f"template ends a turn with text of its own ({end!r})",
                param="stop",
            )
        return replace(job, sampling=replace(job.sampling, stop=(*job.sampling.stop, end)))


def load_served(reference: str, *, name: str | None, tokenizer_file: str | None) -> ServedModel:
    """The model at `reference`, served as `name`; UserError as in `load_weights`, and where no tokenizer is known."""
    weights = load_weights(reference, tokenizer_file=tokenizer_file)
    pretrained = build_pretrained(weights)
    tokenizer = require_tokenizer(pretrained)
    folder = str(weights.tokenizer_file.parent) if weights.tokenizer_file is not None else None
    template: ChatTemplate | UserError
    try:
        template = load_template(None, tokenizer, tokenizer_folder=folder)
    except UserError as error:
        template = error
    return ServedModel(name or reference, pretrained, template)


def _job(prompts: list[list[int]], request: TextRequest, sampling: Sampling) -> Job:
    """`n` texts for each prompt, the same wherever they stand."""
    choices = [(prompt, sampling.seed + number) for prompt in prompts for number in range(request.choices)]
    return Job([prompt for prompt, _ in choices], [seed for _, seed in choices], sampling)
