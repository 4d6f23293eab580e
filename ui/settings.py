"""The product's settings: one optional TOML file in the home directory, environment variables on top, defaults below.

A section is the settings dataclass of the part that owns it; `settings.example.toml` shows them all. Environment: `TACIT_` + section +
`_` + field, as in `TACIT_DATABASE_URL` or `TACIT_ASSISTANT_TEMPERATURE`. Knows nothing of what the settings do.

Different from a settings library: an unknown section or field stops the start and names the legal ones, and training sections are
only parsed when something trains, because their owners import the training libraries.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from alignment.settings import SettingsError, apply_overrides
from chatbot.feedback import FeedbackSettings
from chatbot.passwords import PasswordSettings
from chatbot.settings import (
    AbstentionSettings,
    AssistantSettings,
    EvidenceSettings,
    GroundingSettings,
    LocalGeneratorSettings,
    OpenAIGeneratorSettings,
    ServingSettings,
)
from chatbot.sign_in import SignInSettings
from knowledge_base.chunker import ChunkerSettings
from knowledge_base.embedder import EmbedderSettings
from knowledge_base.errors import UsageError
from knowledge_base.ingestion import IngestionSettings
from knowledge_base.lexical import LexicalSettings
from knowledge_base.loaders.limits import LoadLimits
from knowledge_base.reranker import RerankerSettings
from knowledge_base.retriever import RetrievalSettings
from knowledge_base.sentence_vectors import SentenceSettings
from ui.home import Home
from ui.profile import ProfileSettings, defaults_of

TRAINING_SECTIONS = ("cycle", "snapshot", "raters", "sft", "reward", "taste", "ppo", "best_of_n", "gates")
"""Sections parsed by `training_settings` when something trains."""

S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """Where the state lies."""

    url: str = ""
    """`postgresql+psycopg://user:password@host/name`; empty for SQLite in the home directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """The base model that everything starts from."""

    base: str = ""
    """A Hugging Face causal LM: a local directory or a hub id; empty for the embedded model. A hub id is the only thing that makes
    Tacit contact a hub."""
    external: str = ""
    """Name of a model at an OpenAI-compatible server (section `openai`): it answers instead of a local one, and is not trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The web server."""

    https: bool = False
    """True when people reach it over TLS: the session cookie is then never sent without."""
    max_upload_bytes: int = 50 * 1024 * 1024
    """Largest file that an admin may upload, in bytes."""
    threads: int = 0
    """Processor threads for answering; 0 takes half the cores. More make one answer little faster and several at once slower."""

    def __post_init__(self) -> None:
        """Reject what could not run."""
        if self.threads < 0:
            raise ValueError(f"threads={self.threads} must be 0 (half the cores) or more")
        if self.max_upload_bytes < 1:
            raise ValueError(f"max_upload_bytes={self.max_upload_bytes} must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings but the training ones."""

    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    profile: ProfileSettings = field(default_factory=ProfileSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    loading: LoadLimits = field(default_factory=LoadLimits)
    chunker: ChunkerSettings = field(default_factory=ChunkerSettings)
    ingestion: IngestionSettings = field(default_factory=IngestionSettings)
    embedder: EmbedderSettings = field(default_factory=EmbedderSettings)
    sentences: SentenceSettings = field(default_factory=SentenceSettings)
    lexical: LexicalSettings = field(default_factory=LexicalSettings)
    retrieval: RetrievalSettings = field(default_factory=RetrievalSettings)
    reranker: RerankerSettings = field(default_factory=RerankerSettings)
    generation: LocalGeneratorSettings = field(default_factory=LocalGeneratorSettings)
    openai: OpenAIGeneratorSettings = field(default_factory=OpenAIGeneratorSettings)
    serving: ServingSettings = field(default_factory=ServingSettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    grounding: GroundingSettings = field(default_factory=GroundingSettings)
    abstention: AbstentionSettings = field(default_factory=AbstentionSettings)
    assistant: AssistantSettings = field(default_factory=AssistantSettings)
    passwords: PasswordSettings = field(default_factory=PasswordSettings)
    sign_in: SignInSettings = field(default_factory=SignInSettings)
    feedback: FeedbackSettings = field(default_factory=FeedbackSettings)
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Raw training sections, by name; see `training_settings`."""


def load_settings(home: Home, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings file, if there is one, and the environment.

    Raises:
        UsageError: the file is not TOML, or a section, field or value is not legal; the message names what is.
    """
    raw = _read_file(home)
    values = os.environ if environment is None else environment
    sections = {f.name: f for f in dataclasses.fields(Settings) if f.name != "training"}
    unknown = set(raw) - set(sections) - set(TRAINING_SECTIONS)
    if unknown:
        legal = ", ".join([*sections, *TRAINING_SECTIONS])
        raise UsageError(f"{home.settings_file}: unknown section [{min(unknown)}]; legal sections: {legal}")
    profile = _build(home, "profile", ProfileSettings, raw.get("profile", {}), values)
    built: dict[str, Any] = {
        name: _build(
            home,
            name,
            section.default_factory,  # type: ignore[arg-type]  # every section has one
            raw.get(name, {}),
            values,
            defaults_of(profile, name),
        )
        for name, section in sections.items()
    }
    _refuse_unknown_variables(values, sections)
    training = {name: _section(home, name, raw.get(name, {})) for name in TRAINING_SECTIONS}
    return Settings(**built, training=training)


def _refuse_unknown_variables(environment: Mapping[str, str], sections: Mapping[str, Any]) -> None:
    for name in (*sections, *TRAINING_SECTIONS):
        prefix = f"TACIT_{name}_".upper()
        section = sections.get(name)
        fields = dataclasses.fields(section.default_factory) if section else ()
        legal = {f"{prefix}{item.name}".upper() for item in fields}
        for variable in environment:
            if variable.startswith(prefix) and variable not in legal:
                hint = (
                    f"legal ones: {', '.join(sorted(legal))}"
                    if legal
                    else f"set [{name}] in settings.toml or with --set"
                )
                raise UsageError(f"unknown environment variable {variable}; {hint}")


def _read_file(home: Home) -> dict[str, Any]:
    if not home.settings_file.exists():
        return {}
    try:
        return tomllib.loads(home.settings_file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{home.settings_file} is not valid TOML: {error}") from error
    except OSError as error:
        raise UsageError(
            f"{home.settings_file} cannot be read ({error.strerror}): check its permissions"
        ) from error


def _section(home: Home, name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{home.settings_file}: {name} must be a section: [{name}]")
    return value


def _build(
    home: Home, name: str, owner: type[S], raw: Any, environment: Mapping[str, str], defaults: Sequence[str] = ()
) -> S:  # fmt: skip
    overrides = [*defaults, *as_overrides(_section(home, name, raw))]
    for item in dataclasses.fields(owner):  # type: ignore[arg-type]  # sections are dataclasses
        variable = f"TACIT_{name}_{item.name}".upper()
        if variable in environment:
            overrides.append(f"{item.name}={environment[variable]}")
    try:
        return apply_overrides(owner, overrides)
    except SettingsError as error:
        raise UsageError(f"settings, section [{name}]: {error}") from error


def as_overrides(section: Mapping[str, Any]) -> list[str]:
    """TOML values as `name=value` texts, the one form that settings are parsed from.

    >>> as_overrides({"top_k": 5, "on": True, "kinds": ["a", "b"]})
    ['top_k=5', 'on=true', 'kinds=a,b']
    """
    return [f"{name}={_as_text(value)}" for name, value in section.items()]


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(_as_text(item) for item in value)
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{_as_text(item)}" for key, item in value.items())
    return str(value)


def training_settings(settings: Settings, section: str, owner: type[S], overrides: Sequence[str] = ()) -> S:
    """A training section, with overrides like `ppo.steps=10` or `steps=10` on top.

    Args:
        settings: As loaded.
        section: One of `TRAINING_SECTIONS`.
        owner: The dataclass it configures.
        overrides: `section.name=value`; those of other sections are ignored here.

    Raises:
        UsageError: a name or value is not legal.
    """
    own = [text.removeprefix(f"{section}.") for text in overrides if text.startswith(f"{section}.")]
    try:
        return apply_overrides(owner, [*as_overrides(settings.training[section]), *own])
    except SettingsError as error:
        raise UsageError(f"settings, section [{section}]: {error}") from error


def check_override_sections(overrides: Sequence[str]) -> None:
    """Refuse overrides that no section would take.

    Raises:
        UsageError: the text is not `section.name=value` with a known section.
    """
    for text in overrides:
        section, dot, rest = text.partition(".")
        if not dot or section not in TRAINING_SECTIONS or "=" not in rest:
            legal = ", ".join(f"{name}.*" for name in TRAINING_SECTIONS)
            raise UsageError(f"--set {text!r}: write SECTION.NAME=VALUE, sections: {legal}")
