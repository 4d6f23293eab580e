"""Real cycles on a tiny model: every stage runs, a broken one is resumed, a cancelled one stops.

They go through `ui.training`, the only implementation of what a cycle needs of the product.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignment.errors import RunCancelled, TrainingError
from alignment.records import CycleResult, GateResult, StageProgress
from alignment.tables import runs
from chatbot.best_of_n import CHOICE_FILE
from chatbot.bundles import verify_bundle
from chatbot.evidence_order import FEATURES, ORDER_FILE, EvidenceOrder
from chatbot.records import PolicyVersion, Sampling
from knowledge_base.errors import UsageError
from tests.tiny_home import QUESTIONS, TINY_CYCLE
from ui.training import ProductWorld
from ui.wiring import Services, open_services

pytestmark = pytest.mark.slow

LENIENT = (
    "gates.min_win_rate_low=0",
    "gates.min_win_rate_small=0",
    "gates.min_member_win_rate=0",
    "gates.small_n=100",
    "gates.min_questions=0",
    "gates.min_groundedness=0",
    "gates.max_groundedness_drop=1",
    "gates.max_key_fact_drop=1",
    "gates.max_overlap_drop=1",
    "gates.max_abstention_f1_drop=1",
    "gates.min_length_ratio=0.0001",
    "gates.max_length_ratio=10000",
    "gates.max_kl=1000",
    "gates.min_judgements=0",
)
"""Bars that every candidate passes: whether it is any good is not what these tests are about."""


@contextmanager
def _opened(home: Path) -> Iterator[Services]:
    with open_services(home) as services:
        yield services


@pytest.fixture
def services(tiny: Path) -> Iterator[Services]:
    """A home with 20 judgements."""
    with _opened(tiny / "home") as opened:
        yield opened


def _train(
    services: Services,
    *overrides: str,
    kind: str = "cycle",
    progress: Callable[[StageProgress], None] | None = None,
) -> CycleResult:
    return services.run_training(kind, overrides=[*TINY_CYCLE, *overrides], progress=progress)


@pytest.fixture(scope="module")
def done(
    tiny_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Services, CycleResult]]:
    """A cycle that was promoted, for tests that only look."""
    import shutil

    folder = tmp_path_factory.mktemp("cycle")
    shutil.copytree(tiny_template / "home", folder / "home")
    with _opened(folder / "home") as services:
        yield services, _train(services, *LENIENT)


def test_a_candidate_that_passes_serves_the_next_question(done: tuple[Services, CycleResult]) -> None:
    """Promotion is a row; the assistant of any process follows it."""
    services, result = done

    assert result.promoted, result.reason
    assert result.policy_id == services.registry.serving().id
    assert result.policy_id == services.assistant.answer(QUESTIONS[0][0], services.reader(None)).policy_id


def test_every_gate_is_recorded_with_its_reason(done: tuple[Services, CycleResult]) -> None:
    """In the result, in the run and in the policy."""
    services, result = done
    run, policy = services.runs.get(result.run_id), services.registry.get(str(result.policy_id))

    assert {"win_rate", "groundedness", "kl", "length", "judgements"} <= {gate.name for gate in result.gates}
    assert all(gate.why for gate in result.gates)
    assert (
        [g.name for g in result.gates] == [g["name"] for g in run.gates] == [g["name"] for g in policy.gates]
    )
    assert ("done", True, result.reason) == (run.state, run.promoted, run.reason)


def test_the_bundle_is_whole_and_names_its_lineage(done: tuple[Services, CycleResult]) -> None:
    """Base, data, reward model, prompt, settings: every step back to the judgements."""
    services, result = done
    policy = services.registry.get(str(result.policy_id))
    verify_bundle(Path(policy.path), policy.manifest["files"])

    assert result.run_id == policy.manifest["run"]
    assert result.metrics["snapshot"]["hash"] == policy.manifest["snapshot_hash"]
    assert 2 == policy.manifest["settings"]["ppo"]["steps"]
    assert Path(policy.manifest["reward_model"]).is_dir()
    assert "base" == policy.parent


def test_the_metrics_of_all_stages_are_kept_as_json(done: tuple[Services, CycleResult]) -> None:
    """Numbers and texts only, none of them NaN: pages, command line and database all read them."""
    services, result = done
    stored = services.runs.get(result.run_id).metrics

    assert {"snapshot", "sft", "reward", "judge", "ppo", "gates", "seconds"} <= set(stored)
    assert stored == json.loads(json.dumps(result.metrics, allow_nan=False))


def test_only_open_documents_are_learned_from(done: tuple[Services, CycleResult]) -> None:
    """The restricted collection's text is nowhere in the snapshot."""
    services, result = done
    folder = services.runs.get(result.run_id).directory / "snapshot"
    texts = [path.read_text("utf-8") for path in folder.rglob("*") if path.is_file()]

    assert any("annual leave" in text for text in texts)
    assert not any("pay band" in text for text in texts)


def test_the_judgements_gate_counts_what_was_learned_from(done: tuple[Services, CycleResult]) -> None:
    """Those of held-out questions teach the judge, not the policy."""
    services, result = done
    gate = next(gate for gate in result.gates if gate.name == "judgements")
    folder = services.runs.get(result.run_id).directory / "snapshot"
    held_out = [
        line
        for kind in ("rankings", "unpaired")
        for path in folder.rglob(f"{kind}.held_out.jsonl")
        for line in path.read_text("utf-8").splitlines()
    ]

    assert held_out
    assert 0 < gate.value < result.metrics["snapshot"]["judgements"]


def test_gates_read_answers_as_long_as_readers_get_them(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PPO's samples had at most 8 tokens, this home serves up to 12: every policy writes with the settings of serving."""
    asked_for: list[Sampling] = []

    def load(self: ProductWorld, policy: PolicyVersion) -> Any:
        generator = self._loader(policy)
        monkeypatch.setattr(generator, "generate", _remember(generator.generate, asked_for))
        return generator

    monkeypatch.setattr(ProductWorld, "load", load)
    with _opened(tiny / "home") as services:
        _train(services, *LENIENT)

    assert {(0.0, 12)} == {(sampling.temperature, sampling.max_new_tokens) for sampling in asked_for}


def _remember(generate: Callable[..., Any], asked_for: list[Sampling]) -> Callable[..., Any]:
    def remembering(conversations: Any, sampling: Sampling, *others: Any, **more: Any) -> Any:
        asked_for.append(sampling)
        return generate(conversations, sampling, *others, **more)

    return remembering


def test_judgements_that_were_learned_from_are_not_new_any_more(done: tuple[Services, CycleResult]) -> None:
    """The schedule counts from the snapshot."""
    assert 0 == done[0].new_feedback()


def _compare(services: Services, new: str, *, temperature: float, best_of: int = 1) -> dict[str, Any]:
    """Against the base model, on the questions held out by the cycle, by the judge that it left behind."""
    from ui.comparing import compare_policies

    return compare_policies(
        services,
        new=new,
        old="base",
        questions=None,
        preferences=None,
        collections=None,
        samples=1,
        temperature=temperature,
        seed=0,
        best_of=best_of,
        progress=lambda _done, _total: None,
    )


def test_the_held_out_judge_compares_the_policies(done: tuple[Services, CycleResult]) -> None:
    """`tacit policies compare` without a preference function uses what the cycle left behind."""
    services, result = done
    figures = _compare(services, str(result.policy_id), temperature=0.0)

    assert 0 <= figures["interval"][0] <= figures["win_rate"] <= figures["interval"][1] <= 1
    assert 0 < figures["n"]


def test_the_best_of_four_is_chosen_by_the_reward_of_the_cycle(done: tuple[Services, CycleResult]) -> None:
    """What the policy could reach without learning; the other policy answers as served."""
    services, result = done
    figures = _compare(services, str(result.policy_id), temperature=0.8, best_of=4)

    assert {f"{result.policy_id}, best of 4", "base"} == set(figures["mean_words"])
    assert pytest.approx(math.log(4) - 3 / 4) == figures["kl"]


@pytest.mark.parametrize(
    ("optimiser", "stage", "moved"),
    [
        ("best_of_n", "best_of_n", math.log(3) - 2 / 3),
        ("ppo_best_of_n", "ppo", math.log(3) - 2 / 3),
        ("trl_rloo", "rloo", 0.0),
    ],
)
def test_another_optimiser_is_one_setting_away(
    services: Services, optimiser: str, stage: str, moved: float
) -> None:
    """Its policy passes the same gates, is sealed whole, and serves."""
    result = _train(
        services,
        *LENIENT,
        f"cycle.optimiser={optimiser}",
        "best_of_n.views=false",
        "best_of_n.samples=3",
        "ppo.micro_batch_prompts=1",
    )
    policy = services.registry.get(str(result.policy_id))
    answer = services.assistant.answer(QUESTIONS[0][0], services.reader(None))
    verify_bundle(Path(policy.path), policy.manifest["files"])

    assert (True, stage, policy.id) == (result.promoted, policy.stage, answer.policy_id)
    assert policy.metrics["objective/kl"] >= moved - 1e-6
    assert (CHOICE_FILE in policy.manifest["files"]) == ("best_of_n" in optimiser)
    assert (answer.logprob is None) == ("best_of_n" in optimiser)


def test_the_promoted_policy_can_be_rolled_back(done: tuple[Services, CycleResult]) -> None:
    """And promoted again."""
    services, result = done

    assert "base" == services.roll_back(actor="priya").id
    assert result.policy_id == services.promote(str(result.policy_id), actor="priya").id


def test_a_candidate_that_fails_a_gate_is_kept_and_explained(services: Services) -> None:
    """Rejected is an outcome: the run is done, the base model goes on serving."""
    result = _train(services, *LENIENT, "gates.min_judgements=1000")
    policy = services.registry.get(str(result.policy_id))

    assert not result.promoted
    assert ("rejected", "base") == (policy.state, services.registry.serving().id)
    assert "1000" in policy.reason
    assert "done" == services.runs.get(result.run_id).state


def _fail_by_length(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    """Let the first n verdicts say that answers became too short, and nothing else against the candidate."""
    import alignment.cycle_verdict

    judge, left = alignment.cycle_verdict.run_gates, [n]

    def run_gates(*args: Any, **kwargs: Any) -> list[GateResult]:
        gates = judge(*args, **kwargs)
        left[0] -= 1
        if left[0] < 0:
            return gates
        return [replace(g, passed=False, why="Too short.") if g.name == "length" else g for g in gates]

    monkeypatch.setattr(alignment.cycle_verdict, "run_gates", run_gates)


def test_half_of_a_step_that_went_too_far_may_serve(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a policy of its own, half-way between SFT's and PPO's; the whole step is kept as rejected, with its reason."""
    _fail_by_length(monkeypatch, 1)
    result = _train(services, *LENIENT)
    run = result.run_id[:8]
    whole, half = services.registry.get(f"ppo-{run}"), services.registry.get(f"ppo-half-{run}")

    assert result.promoted
    assert half.id == result.policy_id == services.registry.serving().id
    assert result.reason.startswith("Half of the optimiser's step. All ")
    assert result.reason.endswith("The whole step had failed: Too short.")
    assert ("rejected", "Too short.") == (whole.state, whole.reason)
    assert half.metrics["share_of_step"] == 0.5
    assert "It moved at most" in next(gate.why for gate in result.gates if gate.name == "kl")
    assert {"gates", "gates_half", "step_half"} <= set(result.metrics)
    verify_bundle(Path(half.path), half.manifest["files"])


def test_where_no_part_of_the_step_passes_all_are_kept_and_the_whole_one_is_the_runs(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What serves goes on serving."""
    _fail_by_length(monkeypatch, 9)
    result = _train(services, *LENIENT)
    run = result.run_id[:8]
    states = {p.id: p.state for p in services.registry.list() if p.stage == "ppo"}

    assert f"ppo-{run}" == result.policy_id
    assert dict.fromkeys((f"ppo-{run}", f"ppo-half-{run}", f"ppo-quarter-{run}"), "rejected") == states
    assert "A quarter of the step failed too, by length." in result.reason
    assert "base" == services.registry.serving().id


def test_ops_may_turn_steps_back_off(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cycle.step_backs=0` is one candidate a cycle."""
    _fail_by_length(monkeypatch, 1)
    result = _train(services, *LENIENT, "cycle.step_backs=0")

    assert not result.promoted
    assert ["ppo"] == [p.stage for p in services.registry.list() if p.stage not in ("base", "sft")]


def test_a_run_that_was_killed_between_two_attempts_measures_only_the_one_that_is_missing(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first verdict stands, and it still names the whole step's failure."""
    import alignment.step_back

    def crash(*_: object, **__: object) -> None:
        raise MemoryError("no memory left")

    _fail_by_length(monkeypatch, 1)
    with monkeypatch.context() as broken:
        broken.setattr(alignment.step_back, "step_back", crash)
        with pytest.raises(MemoryError):
            _train(services, *LENIENT)
    asked: list[str] = []
    result = services.resume_run(
        services.runs.list(1)[0].id, progress=lambda report: asked.append(report.note)
    )

    assert result.promoted
    assert f"ppo-half-{result.run_id[:8]}" == result.policy_id
    assert not any(note.endswith(f" ppo-{result.run_id[:8]}") for note in asked)


def test_judgements_that_tell_nothing_are_not_optimised_for(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cycle ends with the SFT policy, ungated and not promoted, and says what to do."""
    import alignment.trait_model

    monkeypatch.setattr(alignment.trait_model, "choose_penalty", lambda *_: math.inf)
    stages: list[str] = []
    result = _train(
        services,
        *LENIENT,
        "cycle.optimise_uninformed=false",
        progress=lambda report: stages.append(report.stage),
    )

    assert f"sft-{result.run_id[:8]}" == result.policy_id
    assert "Collect more comparisons" in result.reason
    assert not result.promoted
    assert not {"rloo", "gates"} & set(stages)
    assert result.metrics["reward"]["informed"] == 0.0


def test_ops_may_keep_promotion_for_themselves(services: Services) -> None:
    """`cycle.promote=false` leaves a candidate; a second cycle starts from the base model again."""
    first = _train(services, *LENIENT, "cycle.promote=false")
    assert not first.promoted
    assert "candidate" == services.registry.get(str(first.policy_id)).state
    second = _train(services, *LENIENT)

    assert second.promoted
    assert first.metrics["snapshot"]["hash"] == second.metrics["snapshot"]["hash"]
    assert first.policy_id != second.policy_id


def test_a_candidate_does_not_replace_a_policy_that_it_was_not_measured_against(services: Services) -> None:
    """Somebody promoted another one between the gates and the promotion: the candidate waits, and says so."""
    other = _train(services, *LENIENT, "cycle.promote=false")

    def meddle(progress: StageProgress) -> None:
        if progress.stage == "gates" and progress.done == progress.total:
            services.registry.promote(str(other.policy_id), "ops")

    late = _train(services, *LENIENT, progress=meddle)

    assert not late.promoted
    assert f"{other.policy_id} serves since" in late.reason
    assert services.registry.serving().id == other.policy_id
    assert services.registry.get(str(late.policy_id)).state == "candidate"


def test_a_successor_is_compared_with_the_last_policy_and_with_the_base_model(services: Services) -> None:
    """It must not be worse than the one, and better than the other."""
    first = _train(services, *LENIENT)
    second = _train(services, *LENIENT)
    reasons = {gate.name: gate.why for gate in second.gates}

    assert first.promoted
    assert str(first.policy_id) == services.registry.get(str(second.policy_id)).parent
    assert "over its parent" in reasons["win_rate"]
    assert "over the base model" in reasons["win_rate_over_base"]
    assert "win_rate_over_base" not in {gate.name for gate in first.gates}


def test_a_learned_order_of_the_evidence_is_part_of_the_policy(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies in the bundle, under its hash, and the promoted policy's next turn is prepared in it."""
    import alignment.evidence_taste

    order = EvidenceOrder(weights=dict.fromkeys(FEATURES, 0.0) | {"log_words": -1.0})
    learned = alignment.evidence_taste.LearnedOrder(order=order, worth={}, metrics={"kept": 1.0})
    monkeypatch.setattr(alignment.evidence_taste, "learn_order", lambda *_, **__: learned)
    before = services.assistant.prepare(QUESTIONS[0][0], services.reader(None))
    result = _train(services, *LENIENT)
    policy = services.registry.get(str(result.policy_id))
    after = services.assistant.prepare(QUESTIONS[0][0], services.reader(None))

    assert order == EvidenceOrder.load(Path(policy.path))
    assert ORDER_FILE in policy.manifest["files"]
    assert order.sort(QUESTIONS[0][0], before.evidence) == list(after.evidence)
    assert order.weights == result.metrics["taste"]["weights"] == policy.manifest["taste"]["weights"]


def test_a_stage_that_breaks_is_resumed_without_repeating_the_others(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is marked failed with the reason and the command; SFT is not done twice."""
    import alignment.ppo

    def crash(*_: object, **__: object) -> None:
        raise MemoryError("no memory left")

    monkeypatch.setattr(alignment.ppo, "train_ppo", crash)
    with pytest.raises(MemoryError):
        _train(services)
    failed = services.runs.list(1)[0]
    assert "failed" == failed.state
    assert "no memory left" in failed.reason
    assert f"tacit runs resume {failed.id}" in failed.reason
    monkeypatch.undo()
    stages: list[str] = []
    result = services.resume_run(failed.id, progress=lambda report: stages.append(report.stage))

    assert result.run_id == failed.id
    assert {"rloo", "gates"} == set(stages)
    assert "done" == services.runs.get(failed.id).state


def _delete_somebody(services: Services) -> None:
    services.accounts.delete(next(j.user_id for j in services.feedback.current()))


def _delete_a_document(services: Services) -> None:
    for document in services.knowledge.list_documents():
        services.ingestor.delete_document(document.id)


def _withdraw_a_vote(services: Services) -> None:
    voted = next(
        j for j in services.feedback.current() if any("hope that helps" in a.text for a in j.answers)
    )
    services.feedback.undo(services.accounts.get(voted.user_id), voted.kind, voted.subject)


def _withdraw_a_demonstration(services: Services) -> None:
    ideal = next(services.feedback.current(kinds=["demonstration"]))
    services.feedback.undo(services.accounts.get(ideal.user_id), ideal.kind, ideal.subject)


def _edit_a_document(services: Services) -> None:
    leave = services.home.path.parent / "docs" / "leave.md"
    leave.write_text(leave.read_text("utf-8").replace("25 days", "26 days"), "utf-8")
    services.ingestor.ingest([leave.parent], "handbook")


def test_a_full_disk_is_not_fuller_after_every_attempt(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was copied before the disk was full goes, and so does what a killed process left."""
    import ui.training

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    left = services.home.policies / ".sft-00000000.abc.partial"
    left.mkdir(parents=True)
    policy = replace(services.registry.serving(), id="sft-00000000")
    with monkeypatch.context() as patched:
        patched.setattr(ui.training, "write_bundle", full)
        with pytest.raises(OSError, match="No space left"):
            ui.training.ProductWorld(services, "run").publish(policy, Path(policy.path))

    assert list(services.home.policies.glob(".*.partial")) == []


@pytest.mark.parametrize(
    ("undo", "named"),
    [
        (_delete_somebody, "1 person"),
        (_delete_a_document, "documents"),
        (_edit_a_document, "1 edited document"),
        (_withdraw_a_vote, "1 judgement"),
        (_withdraw_a_demonstration, "1 demonstration"),
    ],
)
def test_a_killed_run_does_not_go_on_with_what_was_deleted_since(
    undo: Callable[[Services], None], named: str, services: Services
) -> None:
    """Its snapshot still holds it, and the next policy must not."""

    def die(report: StageProgress) -> None:
        if report.stage == "sft":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(services, *LENIENT, "snapshot.held_out_share=0", progress=die)
    run = services.runs.list(1)[0]
    undo(services)

    with pytest.raises(TrainingError, match=f"{named}.*start a new one"):
        services.resume_run(run.id)
    assert [policy.id for policy in services.registry.list()] == ["base"]


def _die_in(stage: str) -> Callable[[StageProgress], None]:
    def die(report: StageProgress) -> None:
        if report.stage == stage:
            raise KeyboardInterrupt

    return die


def test_a_killed_run_goes_on_with_the_settings_and_the_parent_it_began_with(services: Services) -> None:
    """Its overrides are forgotten, another policy is promoted and people change departments meanwhile; all is as at the beginning."""
    other = _train(services, *LENIENT, kind="sft")
    author = next(services.feedback.current(kinds=["demonstration"])).user_id
    services.accounts.set_groups(author, ["sales"])
    with pytest.raises(KeyboardInterrupt):
        _train(
            services, *LENIENT, "sft.max_steps=3", "snapshot.held_out_share=0", kind="sft", progress=_die_in("sft")
        )  # fmt: skip
    run = services.runs.list(1)[0]
    services.promote(str(other.policy_id), actor="ops")
    services.accounts.set_groups(author, ["support"])
    with services.db.write() as connection:
        connection.execute(runs.update().where(runs.c.id == run.id).values(settings={}))
    policy = services.registry.get(str(services.resume_run(run.id).policy_id))

    assert (3, 3.0) == (policy.manifest["settings"]["sft"]["max_steps"], policy.metrics["n_steps"])
    assert "base" == policy.parent
    teams = json.loads((run.directory / "teams" / "done.json").read_text("utf-8"))
    assert ["sales"] == teams[author]


def test_a_killed_run_goes_on_in_a_home_that_was_moved(tiny: Path) -> None:
    """Nothing in it says where it lay."""
    with _opened(tiny / "home") as services, pytest.raises(KeyboardInterrupt):
        _train(services, kind="ppo", progress=_die_in("rloo"))
    (tiny / "home").rename(tiny / "moved")
    with _opened(tiny / "moved") as services:
        result = services.resume_run(services.runs.list(1)[0].id)

        assert "candidate" == services.registry.get(str(result.policy_id)).state


def test_a_cancelled_run_stops_at_its_next_report_and_can_go_on(services: Services) -> None:
    """Somebody on the ops page, in another process."""

    def cancel(report: StageProgress) -> None:
        if report.stage == "sft":
            services.cancel_run(services.runs.list(1)[0].id, actor="priya")

    with pytest.raises(RunCancelled):
        _train(services, progress=cancel)
    run = services.runs.list(1)[0]
    assert "cancelled" == run.state
    assert ["base"] == [policy.id for policy in services.registry.list()]

    assert run.id == services.resume_run(run.id).run_id


def test_a_run_cancelled_after_its_last_report_promotes_nothing(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the bundle's files are checked, say: its policy stays a candidate."""
    from chatbot import policies

    def cancel(*_: object) -> None:
        services.cancel_run(services.runs.list(1)[0].id, actor="priya")

    monkeypatch.setattr(policies, "verify_bundle", cancel)
    with pytest.raises(RunCancelled):
        _train(services, *LENIENT)

    assert ("cancelled", False) == (services.runs.list(1)[0].state, services.runs.list(1)[0].promoted)
    assert "base" == services.registry.serving().id


def test_a_run_killed_after_promoting_does_not_promote_again(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody rolled back before it went on."""
    from alignment.runs import RunStore

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunStore, "finish", die)
        with pytest.raises(KeyboardInterrupt):
            _train(services, *LENIENT)
    run = services.runs.list(1)[0]
    services.roll_back(actor="priya")
    with services.db.write() as connection:  # as SIGKILL leaves it
        connection.execute(runs.update().where(runs.c.id == run.id).values(state="running"))
    result = services.resume_run(run.id)

    assert result.promoted
    assert "base" == services.registry.serving().id


def test_stopping_by_hand_leaves_a_resumable_run(services: Services) -> None:
    """Ctrl-C: nobody must think that somebody still works on it."""

    def interrupt(report: StageProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(services, progress=interrupt)
    run = services.runs.list(1)[0]

    assert ("failed", True) == (run.state, "stopped by hand" in run.reason)
    assert not services.runs.is_worked_on(run.id)


def test_a_run_can_stop_after_sft(services: Services) -> None:
    """It leaves a candidate without gates."""
    result = _train(services, kind="sft")

    assert ("candidate", "sft") == (
        services.registry.get(str(result.policy_id)).state,
        services.registry.get(str(result.policy_id)).stage,
    )
    assert [] == list(result.gates)


def test_people_who_left_teach_nothing(services: Services) -> None:
    """Their judgements are left out; without any the line says to collect some."""
    for user in services.accounts.list():
        services.accounts.disable(user.id)

    with pytest.raises(TrainingError, match="collect some"):
        _train(services)


def test_bad_settings_are_refused_before_a_run_is_made(services: Services) -> None:
    """The line names the setting."""
    with pytest.raises(UsageError, match="stepz"):
        services.run_training("cycle", overrides=["ppo.stepz=3"])
    assert [] == list(services.runs.list())


def test_an_external_model_cannot_be_trained(tiny: Path) -> None:
    """It lives on another server."""
    settings = tiny / "home" / "settings.toml"
    settings.write_text('[model]\nexternal = "gpt"\n[openai]\nurl = "http://127.0.0.1:9/v1"\n')

    with _opened(tiny / "home") as services, pytest.raises(TrainingError, match=r"model\.base"):
        _train(services)
