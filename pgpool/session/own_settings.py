"""Settings of one session: those of pgpool.conf, with what PGPOOL SET has changed on top.

``session.base`` is pgpool.conf as the session knows it, ``session.own_settings`` the parameters with a value of its own.
"""

from __future__ import annotations

from pgpool.config.settings import Settings
from pgpool.session import tell
from pgpool.session.state import Session


def changed(session: Session, settings: Settings, name: str, own: bool) -> None:
    """PGPOOL SET (``own``) or RESET of ``name``, ``all`` included."""
    if name == "all":
        session.own_settings.clear()
    elif own:
        session.own_settings.add(name.lower())
    else:
        session.own_settings.discard(name.lower())
    session.use_settings(settings)
    tell.listen(session)


def reloaded(session: Session) -> None:
    """Between two requests after a reload: what this session has set stays."""
    own = {name: session.settings.value(name) for name in session.own_settings}
    session.base = session.worker.settings
    session.use_settings(session.base.replace(**own) if own else session.base)
    tell.listen(session)
