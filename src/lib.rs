//! tidegate: one live feed in, a million sockets out.
