"""One short module per figure: `run` trains and measures, `draw` shows, `claims` says what holds."""
