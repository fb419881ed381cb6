//! What the end-to-end tests share: the workspace's root, the built commands, a running engine.
//!
//! Tests start real processes and talk to them as a device or a person would. What a test starts, it stops.
