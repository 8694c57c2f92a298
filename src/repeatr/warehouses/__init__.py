"""Where wares live: one contract (`base`), one module a kind of place, and `fetch`."""
