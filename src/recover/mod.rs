//! Getting back what was stored.
