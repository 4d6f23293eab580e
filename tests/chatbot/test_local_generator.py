"""LocalGenerator writes with any causal architecture: batching, seeds, streaming and threads do not change what is written."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from chatbot.errors import GenerationError
from chatbot.local_generator import LocalGenerator
from chatbot.prompt import Message
from chatbot.records import Sampling
from chatbot.settings import LocalGeneratorSettings
from tests.chatbot.tiny_models import ARCHITECTURES, make_tiny_model

FP32 = LocalGeneratorSettings(dtype="float32", batch_size=3)
SHORT = [Message(role="user", content="How many days?")]
LONG = [
    Message(role="system", content="Answer from the evidence."),
    Message(role="user", content="How many days of annual leave do I have? Evidence: [1] You get 25 days."),
]
MIDDLE = [Message(role="user", content="Ask the office — naïve café 🙂, 日本語?")]


@pytest.fixture(scope="module", params=[*ARCHITECTURES, "llama-plain"])
def generator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LocalGenerator:
    """A generator over each architecture, one of them without its chat template."""
    architecture, _, plain = request.param.partition("-")
    folder = tmp_path_factory.mktemp(request.param)
    make_tiny_model(folder, architecture, chat_template=not plain)
    return LocalGenerator(str(folder), "base", FP32)


def test_a_batch_is_completed_as_each_prompt_alone(generator: LocalGenerator) -> None:
    """Left padding is invisible: greedy completions and log-probabilities are the same alone and together."""
    sampling = Sampling(max_new_tokens=24)

    together = generator.generate([SHORT, LONG, MIDDLE, SHORT], sampling)

    alone = [generator.generate([prompt], sampling)[0] for prompt in (SHORT, LONG, MIDDLE, SHORT)]
    assert [c.token_ids for c in alone] == [c.token_ids for c in together]
    assert [c.logprob for c in alone] == pytest.approx([c.logprob for c in together], rel=1e-3)


def test_the_log_probability_is_the_models_own(generator: LocalGenerator) -> None:
    """The sum equals one uncached pass over prompt and completion, at temperature 1 whatever was sampled with."""
    import torch

    completion = generator.generate([LONG], Sampling(temperature=0.7, seed=5, max_new_tokens=16))[0]

    prompt = generator._encode_prompt(LONG)
    ids = torch.tensor([[*prompt, *completion.token_ids]])
    with torch.no_grad():
        logits = generator._loaded.model(ids).logits[0, len(prompt) - 1 : -1]
    picked = torch.log_softmax(logits, -1).gather(-1, ids[0, len(prompt) :, None]).sum().item()
    assert picked == pytest.approx(completion.logprob, rel=1e-3)


def test_the_same_seed_writes_the_same_and_rows_differ(generator: LocalGenerator) -> None:
    """Seeds repeat a batch exactly, while four samples of one prompt are not four times the same."""
    sampling = Sampling(temperature=1.5, top_p=0.95, seed=11, max_new_tokens=12)

    first = generator.generate([LONG] * 4, sampling)

    assert first == generator.generate([LONG] * 4, sampling)
    assert len({c.token_ids for c in first}) > 1
    assert first[0].token_ids == generator.generate([LONG], sampling)[0].token_ids


def test_threads_do_not_disturb_each_others_seeds(generator: LocalGenerator) -> None:
    """Calls on four threads at once write what they write alone."""
    samplings = [Sampling(temperature=1.0, seed=seed, max_new_tokens=12) for seed in range(4)]
    alone = [generator.generate([LONG], s)[0].token_ids for s in samplings]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda s: generator.generate([LONG], s)[0].token_ids, samplings))

    assert alone == together


def test_pieces_joined_are_the_text(generator: LocalGenerator) -> None:
    """A stream's pieces, its completion and the batch call agree, without broken characters."""
    for seed in range(6):
        sampling = Sampling(temperature=1.2, seed=seed, max_new_tokens=40)

        deltas = list(generator.stream(MIDDLE, sampling, threading.Event()))

        whole = deltas[-1].completion
        assert whole is not None
        assert whole.text == "".join(d.text for d in deltas)
        assert "\ufffd" not in whole.text
        assert whole == generator.generate([MIDDLE], sampling)[0]


def test_a_stopped_stream_ends_soon_and_says_so(generator: LocalGenerator) -> None:
    """After `stop` at most the token in the making is still written, and the completion has not ended by itself."""
    stop = threading.Event()
    sampling = Sampling(temperature=1.0, seed=1, max_new_tokens=200)

    deltas = []
    for delta in generator.stream(LONG, sampling, stop):
        deltas.append(delta)
        stop.set()

    assert len(deltas) <= 2
    assert deltas[-1].completion is not None
    assert not deltas[-1].completion.ended


def test_an_overlong_prompt_is_refused_in_one_line(generator: LocalGenerator) -> None:
    """A prompt that leaves no room raises, naming both sizes."""
    prompt = [Message(role="user", content="leave " * 2_000)]

    with pytest.raises(GenerationError, match="tokens and policy base reads 512"):
        generator.generate([prompt], Sampling())


def test_writing_stops_at_the_end_of_the_context(generator: LocalGenerator) -> None:
    """More new tokens than fit are cut to what fits."""
    prompt = [Message(role="user", content="leave " * 60)]

    completion = generator.generate([prompt], Sampling(temperature=1.0, seed=3, max_new_tokens=5_000))[0]

    used = len(generator._encode_prompt(prompt)) + len(completion.token_ids)
    assert used <= generator.context_tokens
    assert completion.ended or used == generator.context_tokens


def test_special_tokens_typed_by_a_person_stay_text(generator: LocalGenerator) -> None:
    """A question that holds the model's own end token has no special token in its encoding beyond the template's."""
    special = set(generator.tokenizer.all_special_ids)
    harmless = [Message(role="user", content="hello")]
    hostile = [Message(role="user", content="hello" + "".join(generator.tokenizer.all_special_tokens))]

    def count(messages: list[Message]) -> int:
        return sum(token in special for token in generator._encode_prompt(messages))

    assert count(harmless) == count(hostile)


def test_the_padding_is_never_the_end(generator: LocalGenerator) -> None:
    """Even GPT-2, which has no padding token, pads with another token than its end."""
    loaded = generator._loaded

    assert loaded.end_ids
    assert loaded.pad_id not in loaded.end_ids
    assert generator.tokenizer.eos_token_id in loaded.end_ids


def test_a_sampled_end_token_ends_the_completion(tmp_path: Path) -> None:
    """The end token counts among the ids and their log-probability, and leaves no text."""
    generator = LocalGenerator(str(make_tiny_model(tmp_path, "qwen2")), "base", FP32)
    greedy = Sampling(max_new_tokens=6)
    first = generator.generate([LONG], greedy)[0]
    generator._loaded = replace(generator._loaded, end_ids=frozenset({first.token_ids[0]}))

    ended = generator.generate([LONG, SHORT], greedy)[0]

    assert ended.ended
    assert (first.token_ids[0],) == ended.token_ids
    assert ended.text == ""


def test_two_streams_on_one_model_progress_together(tmp_path: Path) -> None:
    """While one stream is open and half read, another runs to its end, and both are right."""
    generator = LocalGenerator(str(make_tiny_model(tmp_path, "llama")), "base", FP32)
    sampling = Sampling(temperature=1.0, seed=2, max_new_tokens=20)
    expected = generator.generate([LONG], sampling)[0]

    slow = generator.stream(LONG, sampling, threading.Event())
    started = [next(slow)]
    other = list(generator.stream(LONG, sampling, threading.Event()))
    finished = started + list(slow)

    for found in (other[-1].completion, finished[-1].completion):
        assert found is not None
        assert (expected.text, expected.token_ids) == (found.text, found.token_ids)
        assert expected.logprob == pytest.approx(found.logprob, rel=1e-4)


def test_an_adapter_directory_is_merged(tmp_path: Path) -> None:
    """A LoRA adapter changes what is written, by its own directory or beside the model's path."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = make_tiny_model(tmp_path / "model", "llama")
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj"])
    )
    torch.manual_seed(0)
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.5)
    tuned.save_pretrained(tmp_path / "adapter")
    sampling = Sampling(max_new_tokens=16)

    plain = LocalGenerator(str(base), "base", FP32).generate([LONG], sampling)
    found = LocalGenerator(str(tmp_path / "adapter"), "sft", FP32).generate([LONG], sampling)
    given = LocalGenerator(str(base), "sft", FP32, adapter=tmp_path / "adapter").generate([LONG], sampling)

    assert found == given
    assert plain != found


def test_bfloat16_writes_too(tmp_path: Path) -> None:
    """The type of numbers is a setting; log-probabilities stay close to float32's."""
    folder = str(make_tiny_model(tmp_path, "qwen2"))

    half = LocalGenerator(folder, "base", LocalGeneratorSettings(dtype="bfloat16"))

    assert half.generate([LONG], Sampling(max_new_tokens=4))[0].logprob is not None


@pytest.mark.parametrize("missing", ["/nowhere/at/all", "./nothing-here"])
def test_a_missing_directory_is_one_clear_line(missing: str) -> None:
    """A path that is not there never becomes a question to a hub."""
    with pytest.raises(GenerationError, match="no model directory at"):
        LocalGenerator(missing, "base")


def test_damaged_weights_are_one_clear_line(tmp_path: Path) -> None:
    """A directory with broken weights names itself in the error."""
    folder = make_tiny_model(tmp_path, "llama")
    (folder / "model.safetensors").write_bytes(b"not weights")

    with pytest.raises(GenerationError, match="cannot load the model") as caught:
        LocalGenerator(str(folder), "base")

    assert "\n" not in str(caught.value)
