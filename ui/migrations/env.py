"""Alembic's entry: runs the migrations on the connection that `ui.home.migrate` passes in, inside its transaction."""

from alembic import context

import alignment.tables  # noqa: F401 -- declares its tables on the metadata
import chatbot.tables  # noqa: F401 -- as above
import knowledge_base.tables  # noqa: F401 -- as above
from knowledge_base.database import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter columns in place: Alembic copies the table instead.
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
