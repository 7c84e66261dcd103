"""Administration: the PCP server, its commands, online recovery, and the one client library under all tools."""
