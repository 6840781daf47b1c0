//! Every setting, limit and default.
