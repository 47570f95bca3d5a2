"""Speed against other programs, on outputs that were first compared."""
