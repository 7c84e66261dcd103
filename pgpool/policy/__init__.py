"""Pure decisions with reasons: clock and dice are arguments."""
